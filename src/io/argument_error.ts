/** An argument is wrong, and not the data: a command ends with the status of wrong usage. */
export class ArgumentError extends RangeError {}
