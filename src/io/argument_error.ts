/** An argument is wrong rather than the data: a command then exits with the status of wrong usage. */
export class ArgumentError extends RangeError {}
