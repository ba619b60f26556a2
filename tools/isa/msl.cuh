// What Metal's shading language has and CUDA lacks, for kernels that spirv-cross wrote in it: vectors, their arithmetic and
// the functions on them. Only so much as kernels of WebGPU use. Accuracy is that which a Vulkan compiler may choose.
#pragma once
#include <cstring>
#include <cuda_fp16.h>

namespace msl {

#define DEVICE __device__ __forceinline__
#define EITHER __host__ __device__ __forceinline__

typedef unsigned int uint;
typedef unsigned short ushort;
typedef __half half;
typedef uint atomic_uint;
typedef int atomic_int;

template <class T, int N> struct vec;

template <class T> struct __align__(2 * sizeof(T)) vec<T, 2> {
  T x, y;
  vec() = default;
  EITHER constexpr vec(T a) : x(a), y(a) {}
  EITHER constexpr vec(T a, T b) : x(a), y(b) {}
  template <class U> EITHER constexpr explicit vec(vec<U, 2> o) : x(T(o.x)), y(T(o.y)) {}
  DEVICE T &operator[](uint i) { return (&x)[i]; }
  DEVICE const T &operator[](uint i) const { return (&x)[i]; }
  DEVICE vec<T, 2> yx() const { return vec<T, 2>(y, x); }
};

template <class T> struct vec<T, 3> {
  T x, y, z;
  vec() = default;
  EITHER constexpr vec(T a) : x(a), y(a), z(a) {}
  EITHER constexpr vec(T a, T b, T c) : x(a), y(b), z(c) {}
  EITHER constexpr vec(vec<T, 2> a, T c) : x(a.x), y(a.y), z(c) {}
  template <class U> EITHER constexpr explicit vec(vec<U, 3> o) : x(T(o.x)), y(T(o.y)), z(T(o.z)) {}
  DEVICE T &operator[](uint i) { return (&x)[i]; }
  DEVICE const T &operator[](uint i) const { return (&x)[i]; }
  DEVICE vec<T, 2> xy() const { return vec<T, 2>(x, y); }
  DEVICE vec<T, 2> yz() const { return vec<T, 2>(y, z); }
};

template <class T> struct __align__(4 * sizeof(T)) vec<T, 4> {
  T x, y, z, w;
  vec() = default;
  EITHER constexpr vec(T a) : x(a), y(a), z(a), w(a) {}
  EITHER constexpr vec(T a, T b, T c, T d) : x(a), y(b), z(c), w(d) {}
  EITHER constexpr vec(vec<T, 3> a, T d) : x(a.x), y(a.y), z(a.z), w(d) {}
  EITHER constexpr vec(vec<T, 2> a, vec<T, 2> b) : x(a.x), y(a.y), z(b.x), w(b.y) {}
  template <class U>
  EITHER constexpr explicit vec(vec<U, 4> o) : x(T(o.x)), y(T(o.y)), z(T(o.z)), w(T(o.w)) {}
  DEVICE T &operator[](uint i) { return (&x)[i]; }
  DEVICE const T &operator[](uint i) const { return (&x)[i]; }
  DEVICE vec<T, 2> xy() const { return vec<T, 2>(x, y); }
  DEVICE vec<T, 2> zw() const { return vec<T, 2>(z, w); }
  DEVICE vec<T, 2> xz() const { return vec<T, 2>(x, z); }
  DEVICE vec<T, 2> yw() const { return vec<T, 2>(y, w); }
  DEVICE vec<T, 3> xyz() const { return vec<T, 3>(x, y, z); }
};

#define VECTORS(T, name) \
  typedef vec<T, 2> name##2;  \
  typedef vec<T, 3> name##3;  \
  typedef vec<T, 4> name##4;
VECTORS(float, float)
VECTORS(half, half)
VECTORS(int, int)
VECTORS(uint, uint)
VECTORS(bool, bool)

template <class T> struct is_vector { static const bool value = false; };
template <class T, int N> struct is_vector<vec<T, N>> { static const bool value = true; };
template <bool B, class T> struct only {};
template <class T> struct only<true, T> { typedef T type; };
#define SCALAR(S, R) typename only<!is_vector<S>::value, R>::type

// Componentwise: f of each component.
template <class R, class F, class... A> DEVICE vec<R, 2> each(F f, vec<A, 2>... a) { return vec<R, 2>(f(a.x...), f(a.y...)); }
template <class R, class F, class... A> DEVICE vec<R, 3> each(F f, vec<A, 3>... a) {
  return vec<R, 3>(f(a.x...), f(a.y...), f(a.z...));
}
template <class R, class F, class... A> DEVICE vec<R, 4> each(F f, vec<A, 4>... a) {
  return vec<R, 4>(f(a.x...), f(a.y...), f(a.z...), f(a.w...));
}

#define BINARY(op)                                                                                         \
  template <class T, int N> DEVICE vec<T, N> operator op(vec<T, N> a, vec<T, N> b) {                       \
    return each<T>([](T x, T y) { return T(x op y); }, a, b);                                              \
  }                                                                                                        \
  template <class T, int N, class S> DEVICE SCALAR(S, vec<T COMMA N>) operator op(vec<T, N> a, S b) {      \
    return a op vec<T, N>(T(b));                                                                           \
  }                                                                                                        \
  template <class T, int N, class S> DEVICE SCALAR(S, vec<T COMMA N>) operator op(S a, vec<T, N> b) {      \
    return vec<T, N>(T(a)) op b;                                                                           \
  }                                                                                                        \
  template <class T, int N, class S> DEVICE vec<T, N> &operator op##=(vec<T, N> &a, const S &b) {          \
    a = a op b;                                                                                            \
    return a;                                                                                              \
  }
#define COMMA ,
BINARY(+) BINARY(-) BINARY(*) BINARY(/) BINARY(%) BINARY(&) BINARY(|) BINARY(^) BINARY(<<) BINARY(>>)
#define COMPARE(op)                                                                     \
  template <class T, int N> DEVICE vec<bool, N> operator op(vec<T, N> a, vec<T, N> b) { \
    return each<bool>([](T x, T y) { return bool(x op y); }, a, b);                     \
  }
COMPARE(<) COMPARE(>) COMPARE(<=) COMPARE(>=) COMPARE(==) COMPARE(!=) COMPARE(&&) COMPARE(||)
template <class T, int N> DEVICE vec<T, N> operator-(vec<T, N> a) { return each<T>([](T x) { return T(-x); }, a); }
template <class T, int N> DEVICE vec<T, N> operator~(vec<T, N> a) { return each<T>([](T x) { return T(~x); }, a); }
template <int N> DEVICE vec<bool, N> operator!(vec<bool, N> a) { return each<bool>([](bool x) { return !x; }, a); }

template <class T, class S> DEVICE T as_type(S from) {
  T to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// Functions of floats, and of vectors of them.
#define UNARY(name, of)                                                                             \
  DEVICE float name(float a) { return of(a); }                                                      \
  DEVICE half name(half a) { return half(of(float(a))); }                                           \
  template <class T, int N> DEVICE vec<T, N> name(vec<T, N> a) { return each<T>([](T x) { return name(x); }, a); }
UNARY(exp, __expf)
UNARY(exp2, ::exp2f)
UNARY(log, __logf)
UNARY(log2, __log2f)
UNARY(sqrt, ::sqrtf)
UNARY(rsqrt, ::rsqrtf)
UNARY(tanh, ::tanhf)
UNARY(sin, __sinf)
UNARY(cos, __cosf)
UNARY(floor, ::floorf)
UNARY(ceil, ::ceilf)
UNARY(rint, ::rintf)
UNARY(round, ::roundf)
UNARY(trunc, ::truncf)
DEVICE float signOf(float a) { return a > 0 ? 1.f : a < 0 ? -1.f : 0.f; }
DEVICE float fractOf(float a) { return a - ::floorf(a); }
UNARY(fract, fractOf)

DEVICE float abs(float a) { return ::fabsf(a); }
DEVICE half abs(half a) { return __habs(a); }
DEVICE int abs(int a) { return ::abs(a); }
template <class T, int N> DEVICE vec<T, N> abs(vec<T, N> a) { return each<T>([](T x) { return abs(x); }, a); }
DEVICE float sign(float a) { return signOf(a); }
DEVICE int sign(int a) { return (a > 0) - (a < 0); }
template <class T, int N> DEVICE vec<T, N> sign(vec<T, N> a) { return each<T>([](T x) { return sign(x); }, a); }

DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE half fma(half a, half b, half c) { return __hfma(a, b, c); }
template <class T, int N> DEVICE vec<T, N> fma(vec<T, N> a, vec<T, N> b, vec<T, N> c) {
  return each<T>([](T x, T y, T z) { return fma(x, y, z); }, a, b, c);
}

#define LESSER(name, f, g)                                                                        \
  DEVICE float name(float a, float b) { return f(a, b); }                                         \
  DEVICE half name(half a, half b) { return g(a, b); }                                            \
  DEVICE int name(int a, int b) { return ::name(a, b); }                                          \
  DEVICE uint name(uint a, uint b) { return ::name(a, b); }                                       \
  template <class T, int N> DEVICE vec<T, N> name(vec<T, N> a, vec<T, N> b) {                     \
    return each<T>([](T x, T y) { return name(x, y); }, a, b);                                    \
  }
LESSER(min, ::fminf, __hmin)
LESSER(max, ::fmaxf, __hmax)
template <class T> DEVICE T clamp(T a, T low, T high) { return min(max(a, low), high); }
DEVICE float pow(float a, float b) { return __powf(a, b); }
template <class T, int N> DEVICE vec<T, N> pow(vec<T, N> a, vec<T, N> b) {
  return each<T>([](T x, T y) { return pow(x, y); }, a, b);
}
DEVICE float ldexp(float a, int b) { return ::ldexpf(a, b); }
DEVICE float step(float edge, float a) { return a < edge ? 0.f : 1.f; }
template <class T> DEVICE T mix(T a, T b, T t) { return a + (b - a) * t; }

template <class T, class S> DEVICE SCALAR(T, T) select(T a, S b, bool c) { return c ? T(b) : a; }
template <class T, int N> DEVICE vec<T, N> select(vec<T, N> a, vec<T, N> b, vec<bool, N> c) {
  return each<T>([](T x, T y, bool z) { return z ? y : x; }, a, b, c);
}
template <class T, int N> DEVICE vec<T, N> select(vec<T, N> a, vec<T, N> b, bool c) { return c ? b : a; }

DEVICE bool all(bool a) { return a; }
DEVICE bool any(bool a) { return a; }
DEVICE bool all(vec<bool, 2> a) { return a.x && a.y; }
DEVICE bool any(vec<bool, 2> a) { return a.x || a.y; }
DEVICE bool all(vec<bool, 3> a) { return a.x && a.y && a.z; }
DEVICE bool any(vec<bool, 3> a) { return a.x || a.y || a.z; }
DEVICE bool all(vec<bool, 4> a) { return a.x && a.y && a.z && a.w; }
DEVICE bool any(vec<bool, 4> a) { return a.x || a.y || a.z || a.w; }
template <class T> DEVICE T dot(vec<T, 2> a, vec<T, 2> b) { return fma(a.y, b.y, a.x * b.x); }
template <class T> DEVICE T dot(vec<T, 3> a, vec<T, 3> b) { return fma(a.z, b.z, fma(a.y, b.y, a.x * b.x)); }
template <class T> DEVICE T dot(vec<T, 4> a, vec<T, 4> b) {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, a.x * b.x)));
}
DEVICE bool isnan(float a) { return a != a; }
DEVICE bool isinf(float a) { return ::fabsf(a) == __int_as_float(0x7f800000); }
DEVICE uint mulhi(uint a, uint b) { return __umulhi(a, b); }
DEVICE int mulhi(int a, int b) { return __mulhi(a, b); }
DEVICE uint popcount(uint a) { return __popc(a); }
DEVICE uint clz(uint a) { return __clz(a); }
DEVICE uint reverse_bits(uint a) { return __brev(a); }

// Subgroups.
#define LANES 0xffffffffu
#define SHUFFLES(T)                                                                                     \
  DEVICE T simd_shuffle(T a, uint lane) { return __shfl_sync(LANES, a, lane); }                         \
  DEVICE T simd_broadcast(T a, uint lane) { return __shfl_sync(LANES, a, lane); }                       \
  DEVICE T simd_broadcast_first(T a) { return __shfl_sync(LANES, a, 0); }                               \
  DEVICE T simd_shuffle_xor(T a, uint mask) { return __shfl_xor_sync(LANES, a, mask); }                 \
  DEVICE T simd_shuffle_down(T a, uint by) { return __shfl_down_sync(LANES, a, by); }                   \
  DEVICE T simd_shuffle_up(T a, uint by) { return __shfl_up_sync(LANES, a, by); }
SHUFFLES(float) SHUFFLES(int) SHUFFLES(uint) SHUFFLES(half)
#define SHUFFLE_EACH(name)                                                     \
  template <class T, int N> DEVICE vec<T, N> name(vec<T, N> a, uint by) {      \
    for (int i = 0; i < N; i++) a[i] = name(a[i], by);                         \
    return a;                                                                  \
  }
SHUFFLE_EACH(simd_shuffle) SHUFFLE_EACH(simd_broadcast) SHUFFLE_EACH(simd_shuffle_xor)
#define REDUCE(name, combined)                                      \
  template <class T> DEVICE T name(T a) {                           \
    for (uint step = 16; step > 0; step /= 2) {                     \
      T b = simd_shuffle_xor(a, step);                              \
      a = combined;                                                 \
    }                                                               \
    return a;                                                       \
  }
REDUCE(simd_sum, a + b) REDUCE(simd_max, max(a, b)) REDUCE(simd_min, min(a, b))
DEVICE bool simd_any(bool a) { return __any_sync(LANES, a); }
DEVICE bool simd_all(bool a) { return __all_sync(LANES, a); }

// Atomics.
enum { memory_order_relaxed };
#define ATOMIC(name, f) \
  template <class T, class S> DEVICE T name(T *at, S value, int) { return f(at, T(value)); }
ATOMIC(atomic_fetch_add_explicit, atomicAdd)
ATOMIC(atomic_fetch_max_explicit, atomicMax)
ATOMIC(atomic_fetch_min_explicit, atomicMin)
ATOMIC(atomic_fetch_and_explicit, atomicAnd)
ATOMIC(atomic_fetch_or_explicit, atomicOr)
ATOMIC(atomic_exchange_explicit, atomicExch)
template <class T> DEVICE T atomic_load_explicit(T *at, int) { return *(volatile T *)at; }
template <class T, class S> DEVICE void atomic_store_explicit(T *at, S value, int) { *(volatile T *)at = value; }

template <class T, size_t N> struct spvUnsafeArray {
  T elements[N ? N : 1];
  DEVICE T &operator[](size_t i) { return elements[i]; }
  DEVICE const T &operator[](size_t i) const { return elements[i]; }
};

// Defined after all that they would hide.
namespace precise {
using msl::clamp; using msl::exp; using msl::log; using msl::max; using msl::min; using msl::sqrt; using msl::tanh;
}
namespace fast = precise;

} // namespace msl
