/** One rank of a job under MPI, for mpi.test.ts: every exchange, then a stage. Prints what came out as a line of JSON. */
import process from "node:process";
import { openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { openMpi } from "../src/host/mpi.ts";
import { Ranks } from "../src/train/ranks.ts";
import { trainTogether } from "./rank_task.ts";

const [folder, accumulate] = process.argv.slice(2);
const mpi = openMpi("auto");
const { rank, size } = mpi;
const own = Float32Array.from({ length: size * 1000 }, (_, i) => rank + i);
const [sum, swapped] = [new Float32Array(own.length), new Float32Array(own.length)];
const gathered = new Uint8Array(2 * size);
let ticks = 0;
const timer = setInterval(() => ticks++, 1);
// Asked for at once, done one after the other.
await Promise.all([
  mpi.allreduce(own, sum),
  mpi.alltoall(own, swapped),
  mpi.allgather(Uint8Array.of(rank, 7), gathered),
]);
clearInterval(timer);
const told = await new Ranks(mpi).gather("figures", { rank, nan: Number.NaN });
const exchanged = {
  sum: [sum[0], sum[sum.length - 1]],
  swapped: Array.from({ length: size }, (_, r) => swapped[1000 * r]),
  gathered: [...gathered],
  told: told.map((each) => `${each.rank} ${each.nan}`),
};
const device = await openDevice(await currentHost());
const trained = await trainTogether(device, mpi, folder, { accumulate: Number(accumulate), epochs: 1 });
console.log(JSON.stringify({ rank, size, library: mpi.library, exchanged, weights: trained.weights }));
device.dispose();
mpi.close();
process.exit(0);
