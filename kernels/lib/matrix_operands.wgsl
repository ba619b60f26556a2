// Statements of matmul_matrices.wgsl: what this thread brings of both operands, at k of their rows.
#unroll i LA
#if ${transA}
#unroll r 4
    nextA[$i * 4 + $r] = a4(rowOfK(k + $ru, z), m0 + (line + $iu * PITCH) * 4u, d.M);
#endunroll
#else
    nextA[$i] = a4(atA[$i], k, d.K);
#endif
#endunroll
#unroll i LB
#if ${transB}
    nextB[$i] = b4(atB[$i], k, d.K);
#else
#unroll r 4
    nextB[$i * 4 + $r] = b4(rowB(k + $ru, z), n0 + (line + $iu * PITCH) * 4u, d.N);
#endunroll
#endif
#endunroll
