// The canonical text of a quantity, as upstream's Quantity.String() writes it: "1000m" is "1", "1024Mi" is "1Gi", "0.5" is
// "500m". Every quantity that enters through the API is stored so. k8s.io/apimachinery/pkg/api/resource/quantity.go.

const PATTERN = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+)|([numkMGTPE]|[KMGTPE]i))?$/;
const DECIMAL = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/** Written as mantissa and a power of ten that is a multiple of three. */
const decimalForm = (nano: bigint, exponents: boolean): string => {
  if (nano === 0n) return "0";
  let [mantissa, power] = [nano, -9];
  while (mantissa % 1000n === 0n && power < 18) [mantissa, power] = [mantissa / 1000n, power + 3];
  return exponents ? `${mantissa}${power === 0 ? "" : `e${power}`}` : `${mantissa}${DECIMAL[power / 3 + 3]!}`;
};

/** undefined when `text` is not a quantity. Precision ends at nano, rounded up (away from zero), as upstream does. */
export const canonicalQuantity = (text: string): string | undefined => {
  const match = PATTERN.exec(text);
  if (!match || (match[2] === "" && (match[3] ?? "") === "")) return undefined;
  const [, sign, whole, fraction = "", exponent, suffix = ""] = match;
  if (exponent !== undefined && Math.abs(Number(exponent)) > 30) return undefined;
  // value = digits * scale / divisor, counted in nano
  const digits = BigInt(`${whole}${fraction}` || "0");
  const binary = BINARY.indexOf(suffix);
  const tenth = (exponent === undefined ? (binary > 0 ? 0 : (DECIMAL.indexOf(suffix) - 3) * 3) : Number(exponent)) - fraction.length + 9;
  const scaled = digits * (binary > 0 ? 1n << BigInt(10 * binary) : 1n) * 10n ** BigInt(Math.max(tenth, 0));
  const divisor = 10n ** BigInt(Math.max(-tenth, 0));
  const magnitude = (scaled + divisor - 1n) / divisor;
  const nano = sign === "-" ? -magnitude : magnitude;
  if (binary > 0 && magnitude % 1_000_000_000n === 0n && magnitude >= 1024n * 1_000_000_000n) {
    let [mantissa, power] = [nano / 1_000_000_000n, 0];
    while (mantissa % 1024n === 0n && power < 6) [mantissa, power] = [mantissa / 1024n, power + 1];
    return `${mantissa}${BINARY[power]!}`;
  }
  return decimalForm(nano, exponent !== undefined);
};
