// Which texts are names: k8s.io/apimachinery/pkg/util/validation, with its wording. Each rule returns what is wrong, or nothing.

export type NameRule = (value: string) => readonly string[];

const bytes = (value: string): number => Buffer.byteLength(value);
const tooManyBytes = (max: number): string => `must be no more than ${max} bytes`;

const rule = (maxBytes: number, pattern: RegExp, message: string): NameRule => (value) => [
  ...(bytes(value) > maxBytes ? [tooManyBytes(maxBytes)] : []),
  ...(pattern.test(value) ? [] : [message]),
];

export const isDnsLabel = rule(63, /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')");
export const isDnsSubdomain = rule(253, /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')");
export const isLabelValue = rule(63, /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/,
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')");
/** RelaxedEnvironmentVariableValidation, upstream's default since 1.32. */
export const isEnvName = rule(Number.POSITIVE_INFINITY, /^[ -<>-~]+$/, "a valid environment variable name must consist only of printable ASCII characters other than '='");
const configKeyRule = rule(253, /^[-._a-zA-Z0-9]+$/,
  "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')");
/** Keys become file names: none may leave the volume's directory. */
export const isConfigMapKey: NameRule = (value) => [
  ...configKeyRule(value), ...(value === "." || value === ".." ? [`must not be '${value}'`] : value.startsWith("..") ? ["must not start with '..'"] : []),
];

const QUALIFIED = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/** A label or annotation key: an optional DNS subdomain, "/", and a name of at most 63 characters. */
export const isQualifiedName: NameRule = (value) => {
  const parts = value.split("/");
  if (parts.length > 2) return [`a qualified name ${QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`];
  const name = parts.at(-1)!;
  const faults: string[] = [];
  if (parts.length === 2) faults.push(...(parts[0] === "" ? ["prefix part must be non-empty"] : isDnsSubdomain(parts[0]!).map((m) => `prefix part ${m}`)));
  if (name === "") faults.push("name part must be non-empty");
  else if (bytes(name) > 63) faults.push(`name part ${tooManyBytes(63)}`);
  if (!/^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/.test(name)) faults.push(`name part ${QUALIFIED}`);
  return faults;
};

/** RFC 6335, section 5.1. */
export const isPortName: NameRule = (value) => [
  ...(value.length > 15 ? ["must be no more than 15 characters"] : []),
  ...(/^[-a-z0-9]+$/.test(value) ? [] : ["must contain only alphanumeric characters (a-z, 0-9), and hyphens (-)"]),
  ...(/[a-z]/.test(value) ? [] : ["must contain at least one letter (a-z)"]),
  ...(value.includes("--") ? ["must not contain consecutive hyphens"] : []),
  ...(/^-|-$/.test(value) ? ["must not begin or end with a hyphen"] : []),
];

export const PORT_RANGE = "must be between 1 and 65535, inclusive";
export const isPortNumber = (port: number): boolean => port >= 1 && port <= 65535;
