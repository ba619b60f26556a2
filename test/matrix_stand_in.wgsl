// Plain WGSL in place of subgroup matrices, with which kernels/matmul_matrices.wgsl is run where no adapter has them; see
// matrix_device.ts. As there, a matrix is spread over the lanes of a subgroup and all of them load and store it together, so
// that a barrier which is missing shows: a lane holds the results lane, lane + LANES, ... and of the operands the rows and the
// column that these need. A matrix in the kernel is the place of a lane's part: LLVM takes minutes for values of that size.
const HELD = MM * NN / LANES;
const DOWN = LANES / NN;
var<private> rows: array<f32, FM * HELD * KK>;
var<private> column: array<f32, KK>;
var<private> sums_held: array<f32, FM * FN * HELD>;
var<private> my_lane: u32;
var<private> lefts_made: u32;
var<private> sums_made: u32;

alias Sums = u32; // 0 before the first product, else one more than its place

// n, in a way that no loop is unrolled: LLVM is quicker so.
fn times(n: u32) -> u32 { return select(n, 0u, d.M == 0u); }

fn load_left(offset: u32, down: u32, along: u32) -> u32 {
  let at = (lefts_made % FM) * HELD * KK;
  lefts_made++;
  for (var i = 0u; i < times(HELD * KK); i++) {
    let source = offset + (my_lane / NN + i / KK * DOWN) * down + i % KK * along;
    rows[at + i] = f32(tileA[source / 4u][source % 4u]);
  }
  return at;
}
fn load_right(offset: u32, down: u32, along: u32) -> u32 {
  for (var k = 0u; k < times(KK); k++) {
    let source = offset + k * down + my_lane % NN * along;
    column[k] = f32(tileB[source / 4u][source % 4u]);
  }
  return 0u;
}
// Offsets and strides count elements of the arrays, which are quads.
fn load_left_row_major(offset: u32, stride: u32) -> u32 { return load_left(offset * 4u, stride * 4u, 1u); }
fn load_left_col_major(offset: u32, stride: u32) -> u32 { return load_left(offset * 4u, 1u, stride * 4u); }
fn load_right_row_major(offset: u32, stride: u32) -> u32 { return load_right(offset * 4u, stride * 4u, 1u); }
fn load_right_col_major(offset: u32, stride: u32) -> u32 { return load_right(offset * 4u, 1u, stride * 4u); }

fn multiply_accumulate(left: u32, right: u32, sums: Sums) -> Sums {
  var place = sums;
  if (place == 0u) {
    sums_made++;
    place = sums_made;
  }
  for (var h = 0u; h < times(HELD); h++) {
    var sum = sums_held[(place - 1u) * HELD + h];
    for (var k = 0u; k < times(KK); k++) { sum = fma(rows[left + h * KK + k], column[k], sum); }
    sums_held[(place - 1u) * HELD + h] = sum;
  }
  return place;
}

fn store_row_major(offset: u32, sums: Sums, stride: u32) {
  for (var h = 0u; h < times(HELD); h++) {
    let sum = select(sums_held[max(sums, 1u) * HELD - HELD + h], 0.0, sums == 0u);
    results[offset + (my_lane / NN + h * DOWN) * stride + my_lane % NN] = sum;
  }
}
