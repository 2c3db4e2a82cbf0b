// Which refusals of the walk's commands are right: for each command those of its own situations, in the product's words. X is a container's name or
// id. What is not here is a fault.

/** Somebody else removed it, or took its name. */
const GONE = [/pods "X" not found/, /no such (?:container|object): X/, /pod X was deleted meanwhile/];
/** Two commands with one container; each ends when the other has won. */
const OVERRULED = /pod X was told otherwise by another command meanwhile \(it is to be (?:running|stopped|paused)\)/;
const NAME_TAKEN = /the name "X" is in use by another container: remove it/;
/** Its node is not chosen yet, or has not heard of it. */
const NOWHERE_YET = [/pod (?:default\/)?X has no node yet/, /pod X does not have a host assigned/, /no pod X on this node/];
const FILES = [...GONE, ...NOWHERE_YET, /does not run, and does not keep its files/, /no such file or directory in the container: /];
const COMPOSE = [/walk-[ab]-1 was removed/, /the name walk-[ab]-1 is in use by a container that isn't the project's/, /pods "walk-[ab]-1" (?:not found|already exists)/, /pod walk-[ab]-1 was (?:deleted|told otherwise by another command) meanwhile/];
const IMAGE = /No such image: (?:built|committed|tagged):\d/;

const REFUSALS: Readonly<Record<string, readonly RegExp[]>> = {
  run: [NAME_TAKEN, /X was (?:removed|stopped) before it started/, /volume (?:left|right) is being removed, and is in use still/],
  create: [NAME_TAKEN, /X was removed before it started/],
  stop: [...GONE, OVERRULED],
  start: [...GONE, OVERRULED, /pod X is paused: unpause it instead/],
  restart: [...GONE, OVERRULED, /pod X is paused: unpause it instead/],
  kill: [...GONE, OVERRULED, ...NOWHERE_YET, /pod X is not running/, /container "X" of pod "X" is (?:not running|paused: it would hear)/],
  pause: [...GONE, OVERRULED, /pod X is (?:not running|already paused)/, /pod X could not be paused: /],
  unpause: [...GONE, OVERRULED, /pod X is not paused/],
  remove: GONE,
  "remove gently": [...GONE, /container "X" is running: stop it first/],
  exec: [
    ...GONE, ...NOWHERE_YET, /container not found \("X"\): it is not running in the pod default\/X/, /cannot exec into a container in a completed pod/,
    /container "X" of pod "X" is (?:not running|paused)/, /container X (?:has ended|is (?:created|exited)): commands can only be run in a running one/,
  ],
  logs: [...GONE, ...NOWHERE_YET, /container "X" in pod "X" is (?:not available|waiting to start)/],
  ps: [],
  inspect: GONE,
  top: [...GONE, ...NOWHERE_YET, /container "X" of pod "X" is not running: it has no processes/],
  diff: FILES,
  "copy in": FILES,
  "copy out": FILES,
  commit: FILES,
  build: [],
  tag: [IMAGE],
  "remove image": [IMAGE, /unable to remove (?:built|committed|tagged):\d: /],
  images: [],
  "make volume": [/persistentvolumeclaims "(?:left|right)" already exists/],
  "remove volume": [/no such volume: (?:left|right)/, /volume (?:left|right) is in use by /],
  "compose up": COMPOSE,
  "compose down": COMPOSE,
};

/** Of a node whose agent is not there: right only around its death. */
const AGENT_AWAY = /node \S+ (?:lost its connection|is not connected to this control plane|did not answer within)|the stream to node \S+ broke|the node ended the stream without|no node is connected|not connected: node-|did not reach every node/;

/** `agentAway`: an agent was killed while the command ran, or just before. */
export const isRightRefusal = (command: string, err: string, agentAway: boolean): boolean => {
  const said = err.replaceAll(/walk-\d+|[0-9a-f]{12,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "X");
  return (REFUSALS[command] ?? []).some((known) => known.test(said)) || (agentAway && AGENT_AWAY.test(said));
};
