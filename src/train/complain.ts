/** What valibot found wrong, as one line. */
import * as v from "valibot";
import { brief } from "../io/json.ts";

/** "Cannot use PATH: KEY is X but should be Y". */
export function complain(source: string, issue: v.BaseIssue<unknown>): SyntaxError {
  const key = v.getDotPath(issue) ?? "the whole";
  const strict = issue.type === "strict_object" || issue.type === "object";
  if (strict && issue.expected === "never")
    return new SyntaxError(`Cannot use ${source}: there is no key ${key}`);
  if (issue.input === undefined) return new SyntaxError(`Cannot use ${source}: it lacks the key ${key}`);
  return new SyntaxError(
    `Cannot use ${source}: ${key} is ${brief(issue.input)} but should be ${wanted(issue)}`,
  );
}

function wanted({ type, expected, requirement, message, input }: v.BaseIssue<unknown>): string {
  if (type === "integer" || type === "safe_integer")
    return Number.isInteger(input) ? "a whole number below 2^53" : "a whole number";
  if (type === "finite") return "a finite number";
  if (type === "min_value") return `at least ${requirement}`;
  if (type === "gt_value") return `more than ${requirement}`;
  if (type === "max_value") return `at most ${requirement}`;
  if (type === "lt_value") return `less than ${requirement}`;
  if (type === "strict_object" || type === "object" || type === "record") return "an object";
  if (type === "array") return "a list";
  if (type === "min_length" || type === "check" || type === "regex") return message;
  const choices = expected?.replaceAll('"', "") ?? type;
  return choices.startsWith("(") ? `one of ${choices.slice(1, -1).replaceAll(" | ", ", ")}` : `a ${choices}`;
}
