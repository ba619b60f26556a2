/** Calls into shared libraries of C: npm `koffi` under Node, Deno.dlopen() under Deno. */

import { createRequire } from "node:module";

/** A C type of an argument. "bytes": the address of a typed array's elements; "pointer": an address that C gave, or null. */
export type NativeType = "i32" | "pointer" | "bytes";

/** An address in C: whatever the runtime hands out. */
export type Pointer = object | null;

/** A value of a NativeType. */
export type NativeValue = number | Pointer | ArrayBufferView;

/** Arguments of functions that return an int, by their names. */
export type Signatures = Readonly<Record<string, readonly NativeType[]>>;

/** A loaded library. */
export interface NativeLibrary<S extends Signatures> {
  /** Calls a function and waits for it. */
  call(name: keyof S & string, ...values: NativeValue[]): number;
  /** Calls a function on another thread. Typed arrays must stay as they are until it has returned. */
  callAsync(name: keyof S & string, ...values: NativeValue[]): Promise<number>;
}

/** A library whose functions are not declared yet. */
export interface OpenLibrary {
  /** The address of a symbol; undefined where there is none of the name. */
  address(symbol: string): Pointer | undefined;
  /** Declares functions. Throws where the library lacks one. */
  declare<S extends Signatures>(signatures: S): NativeLibrary<S>;
}

/** Loads a library by path, or by a name that the system's loader finds. Throws the loader's reason. */
export function openLibrary(name: string): OpenLibrary {
  return "Deno" in globalThis ? throughDeno(name) : throughKoffi(name);
}

type Koffi = typeof import("koffi");
/** In a function of its own, which bundlers do not see through: native code stays outside. */
const requireFrom = (url: string) => createRequire(url);
let koffi: Koffi | undefined;

function openKoffi(): Koffi {
  const own = requireFrom(import.meta.url)("koffi") as Koffi;
  // 128 KiB by default; MPICH needs more in a call on another thread. Cannot be set later.
  own.config({ async_stack_size: 2 * 2 ** 20 });
  return own;
}

function throughKoffi(path: string): OpenLibrary {
  koffi ??= openKoffi();
  // What a library loads itself, as the plugins of Open MPI, may look for its symbols.
  const library = koffi.load(path, { global: true });
  const types = { i32: "int32_t", pointer: "void *", bytes: "void *" } as const;
  return {
    address(symbol) {
      try {
        return library.symbol(symbol) as Pointer;
      } catch {
        return undefined;
      }
    },
    declare(signatures) {
      const functions = new Map(
        Object.entries(signatures).map(([name, parameters]) => [
          name,
          library.func(
            name,
            "int32_t",
            parameters.map((type) => types[type]),
          ),
        ]),
      );
      const find = (name: string) => functions.get(name) as NonNullable<ReturnType<typeof functions.get>>;
      return {
        call: (name, ...values) => find(name)(...values) as number,
        callAsync: (name, ...values) =>
          new Promise((resolve, reject) =>
            find(name).async(...values, (error: unknown, status: number) =>
              error ? reject(error) : resolve(status),
            ),
          ),
      };
    },
  };
}

type DenoCall = (...values: NativeValue[]) => number | Promise<number>;

declare const Deno: {
  permissions: { querySync(of: { name: "ffi" }): { state: string } };
  dlopen(library: string, symbols: object): { symbols: Record<string, unknown> };
};

function throughDeno(path: string): OpenLibrary {
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") throw new Error("no --allow-ffi");
  Deno.dlopen(path, {});
  const types = { i32: "i32", pointer: "pointer", bytes: "buffer" } as const;
  return {
    address(symbol) {
      const { symbols } = Deno.dlopen(path, { [symbol]: { type: "pointer", optional: true } });
      return (symbols[symbol] as Pointer) ?? undefined;
    },
    declare(signatures) {
      const definitions = Object.entries(signatures).flatMap(([name, parameters]) => {
        const definition = { name, parameters: parameters.map((type) => types[type]), result: "i32" };
        return [
          [name, definition],
          [`${name} later`, { ...definition, nonblocking: true }],
        ];
      });
      const { symbols } = Deno.dlopen(path, Object.fromEntries(definitions));
      return {
        call: (name, ...values) => (symbols[name] as DenoCall)(...values) as number,
        callAsync: async (name, ...values) => await (symbols[`${name} later`] as DenoCall)(...values),
      };
    },
  };
}
