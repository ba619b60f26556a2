/** Opens the weights of a model in any format: safetensors, else what torch.save() wrote. */
import type { Host } from "../host/host.ts";
import { SAFETENSORS, WHOLE } from "./safetensors.ts";
import { type FileFormat, openFiles, type Safetensors } from "./tensor_files.ts";

// Loaded with the first such file: a page in a browser rarely needs it.
const torch = () => import("./torch_checkpoint.ts");

/** The format of PyTorch's own files, of which every tensor is read as its contiguous form. */
const TORCH: FileFormat = {
  extension: ".bin",
  async open(file, path) {
    const { readTorchHeader } = await torch();
    const { readView } = await import("./strided.ts");
    try {
      const { tensors, views, dropped } = await readTorchHeader(file, path);
      return {
        ...{ tensors, dropped },
        read: (key, into, byteOffset) =>
          readView((bytes, position) => file.read(bytes, position), views.get(key)!, into, byteOffset),
      };
    } catch (cause) {
      if (!(cause instanceof SyntaxError)) throw cause;
      throw new SyntaxError(`Cannot read ${path}: ${cause.message}`, { cause });
    }
  },
};

/** Names of a model's weights as torch.save() wrote them, the first before the second. */
const TORCH_NAMES: readonly string[] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/**
 * Opens a file, an `*.index.json`, or a folder: with `model.safetensors` or its index, else with `pytorch_model.bin` or its index,
 * else with a single `*.safetensors`. Where the name does not tell the format, the first bytes do. Nothing of a pickle is executed.
 * Throws one line that names the file and what is wrong.
 *
 * @example
 * ```ts
 * const file = await openCheckpoint(host, bundledModel());
 * console.log(file.tensors.get("lm_head.bias")?.shape, file.dropped); // [32] []
 * await file.close();
 * ```
 */
export async function openCheckpoint(host: Host, path: string): Promise<Safetensors> {
  const target = (await host.kind(path)) === "directory" ? await findIn(host, path) : path;
  return await openFiles(host, path, target, formatOf(target));
}

async function findIn(host: Host, folder: string): Promise<string> {
  // A browser can ask for a file, but not for what a folder holds.
  for (const name of [...WHOLE, ...TORCH_NAMES])
    if ((await host.kind(`${folder}/${name}`)) !== undefined) return `${folder}/${name}`;
  const others = (await host.list(folder)).filter((name) => name.endsWith(".safetensors"));
  if (others.length === 1) return `${folder}/${others[0]}`;
  const there = others.length > 0 ? `it holds ${others.join(", ")}` : "it holds no *.safetensors";
  throw new Error(
    `Cannot open ${folder}: ${there}, expected model.safetensors, pytorch_model.bin or the index of one of them`,
  );
}

const formatOf = (target: string): FileFormat => {
  if (target.endsWith(".json")) return target.endsWith(".bin.index.json") ? TORCH : SAFETENSORS;
  return /\.(bin|pt|pth|ckpt)$/i.test(target) ? TORCH : EITHER;
};

/** Of a file whose name does not tell. */
const EITHER: FileFormat = {
  extension: "",
  async open(file, path) {
    const head = new Uint8Array(Math.min(9, file.size));
    await file.read(head, 0);
    if (head[7] === 0 && head[8] === 0x7b) return await SAFETENSORS.open(file, path); // a length, then "{"
    const { mayBeTorch } = await torch();
    return await (mayBeTorch(head.subarray(0, 8)) ? TORCH : SAFETENSORS).open(file, path);
  },
};
