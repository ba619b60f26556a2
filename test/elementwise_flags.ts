/** Flags of kernels/elementwise.wgsl as a small f32 call has them, for tests that run the kernel without its operator. */
export const FLAGS = { QUADS: 1, enables: "", X: "f32" };
