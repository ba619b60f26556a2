/** Names of models on the Hugging Face Hub: ORG/NAME, or ORG/NAME@REVISION. */
import { ArgumentError } from "../io/argument_error.ts";
import { quote } from "../io/json.ts";

/** A model of the hub. */
export interface ModelName {
  /** "ORG/NAME". */
  readonly id: string;
  /** A branch, a tag, a commit or a reference as refs/pr/1; "main" where none was given. */
  readonly revision: string;
  /** Whether a revision was given. */
  readonly pinned: boolean;
}

/** As huggingface_hub's validate_repo_id(). */
const PART = /^(?![-.])(?!.*(?:--|\.\.))[\w.-]{1,96}(?<![-.])$/;
/** What git refuses in a reference, of which one becomes a path. */
const BAD_REVISION = /[\0-\x20\x7f~^:?*[\\]|\.\.|\/\/|^[/.]|\/\.|[/.]$|@\{/;

/** Whether a commit is named in full, which always means the same files. */
export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/** Reads ORG/NAME[@REVISION]; undefined where a text has another form. */
export function modelName(text: string): ModelName | undefined {
  const at = text.indexOf("@");
  const id = at < 0 ? text : text.slice(0, at);
  const revision = at < 0 ? "main" : text.slice(at + 1);
  const parts = id.split("/");
  if (parts.length !== 2 || !parts.every((part) => PART.test(part)) || id.endsWith(".git")) return undefined;
  if (revision === "" || BAD_REVISION.test(revision)) return undefined;
  return { id, revision, pinned: at >= 0 };
}

/** As modelName(). Throws an ArgumentError where a text has another form. */
export function requireModelName(text: string): ModelName {
  const name = modelName(text);
  if (name) return name;
  throw new ArgumentError(
    `Cannot read ${quote(text)}: models of the hub are named ORG/NAME or ORG/NAME@REVISION, as facebook/hubert-large-ls960-ft`,
  );
}

/** The name as it was given. */
export const showName = ({ id, revision, pinned }: ModelName): string => (pinned ? `${id}@${revision}` : id);
