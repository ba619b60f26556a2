#!/usr/bin/env node
/**
 * Everything that a machine with a GPU can tell, in one go of at most ten minutes: node bench/gpu-report.mjs [--quick]
 *
 * Needs a checkout with node_modules and Node from 20 on; bench/gpu_report/main.ts says what it does and takes.
 */
import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const args = ["--import", "tsx", "bench/gpu_report/main.ts", ...process.argv.slice(2)];
process.exitCode = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" }).status ?? 1;
