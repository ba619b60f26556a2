/** The report as data: what its JSON file holds. */

/** What a section found, one thing. Rows with `note` say what was not done and why, those with `failed` or `faults` what is wrong. */
export type Row = Readonly<Record<string, unknown>>;

/** One section. */
export interface Section {
  readonly name: string;
  readonly title: string;
  /** Seconds that it was given, and that it took. */
  readonly limit: number;
  readonly seconds: number;
  readonly state: "done" | "failed" | "out of time" | "left out";
  /** Why it is not done, in a line. */
  readonly error?: string;
  readonly rows: readonly Row[];
}

/** What is used here of what `wavegate doctor --json` prints. */
export interface Doctor {
  readonly adapter?: {
    readonly name: string;
    readonly description: string;
    readonly path: string;
    readonly features: { readonly f16: boolean; readonly subgroups: boolean; readonly timestamps: boolean };
  };
  readonly peaks?: { readonly adapter: string; readonly driver: string } & Readonly<Record<string, unknown>>;
}

/** Everything. */
export interface Report {
  readonly version: 1;
  readonly date: string;
  readonly commit?: string;
  readonly host: string;
  readonly quick: boolean;
  /** Seconds that the whole was given. */
  readonly budget: number;
  device: string;
  doctor?: Doctor;
  readonly sections: Section[];
}
