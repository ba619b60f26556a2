/** What the scripts of the sections share: their command line, and how they hand over what they have so far. */
import { appendFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    seconds: { type: "string", default: "60" },
    result: { type: "string" },
  },
});

/** Tiny sizes, to see that everything runs. */
export const quick = values.quick;

const end = 1000 * Number(values.seconds);
/** Whether there is time to begin something more: `needed` seconds of what the section was given since its process began. */
export const hasTime = (needed = 0): boolean => performance.now() + 1000 * needed < end;

/** Starts the file of rows. */
if (values.result) writeFileSync(values.result, "");

/** Hands over one row: what was handed over stays in the report whatever comes after. */
export function deliver(row: object): void {
  const line = JSON.stringify(row);
  if (values.result) appendFileSync(values.result, `${line}\n`);
  else console.log(line);
}

/** Notes in the report what the time did not suffice for. */
export const leaveOut = (what: string): void => deliver({ note: `left out for want of time: ${what}` });

/** Runs `body`; an error becomes a note, and the section goes on. */
export async function attempt(what: string, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    deliver({ note: `${what}: ${(error as Error).message.split("\n", 1)[0]}`, failed: true });
  }
}
