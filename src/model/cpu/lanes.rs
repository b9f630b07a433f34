//! Sixteen floats at a time: the one vector type that every kernel here is written in, once for each instruction set.
//!
//! # Safety
//!
//! Values of [`Avx512`] and [`Avx2`] may only be handled in functions that are compiled for that instruction set and only called
//! where the machine has it; [`super::kernels`] is the one place that sees to both. The trait's functions are `unsafe` for that
//! reason; pointers must be valid for sixteen floats, at any alignment.

/// Floats in a lane.
pub const LANE: usize = 16;

/// Sixteen `f32`. Every method is elementwise.
pub trait Lanes: Copy {
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// Sixteen integers as floats.
    unsafe fn load_shorts(from: *const i16) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    /// `self * factor + summand`, rounded once where the instruction set has it.
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self;
    /// `2^n`, where the low bits of each element hold the integer `n` (as after adding [`ROUNDING`]).
    unsafe fn power_of_two(self) -> Self;
    /// Asks for the cache line of an address, which need not be valid.
    unsafe fn prefetch(from: *const u8);
}

/// Adding this to a float of moderate size leaves its nearest integer in the low bits.
const ROUNDING: f32 = 12_582_912.0;

/// `e^x` within 2e-7 relative; below -87 it stays at `e^-87`, above 88 at `e^88`.
#[inline(always)]
pub unsafe fn exp<L: Lanes>(x: L) -> L {
    unsafe {
        let x = x.max(L::splat(-87.0)).min(L::splat(88.0));
        let rounded = x.mul_add(L::splat(std::f32::consts::LOG2_E), L::splat(ROUNDING));
        let n = rounded.sub(L::splat(ROUNDING));
        // ln 2 in two parts, so that the product with `n` loses nothing.
        let r = n.mul_add(L::splat(-0.693_359_4), x);
        let r = n.mul_add(L::splat(2.121_944_4e-4), r);
        // Cephes' polynomial for e^r - 1 - r on [-ln 2 / 2, ln 2 / 2].
        let mut p = L::splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = p.mul_add(r, L::splat(c));
        }
        let p = p.mul_add(r.mul(r), r.add(L::splat(1.0)));
        p.mul(rounded.power_of_two())
    }
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub unsafe fn silu<L: Lanes>(x: L) -> L {
    unsafe { x.div(exp(L::splat(0.0).sub(x)).add(L::splat(1.0))) }
}

/// Any machine: plain arrays, which the compiler turns into whatever vectors the target always has.
#[derive(Clone, Copy)]
pub struct Portable([f32; LANE]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Portable {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANE])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; LANE]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_shorts(from: *const i16) -> Self {
        Self(unsafe { from.cast::<[i16; LANE]>().read_unaligned() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; LANE]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, f32::max)
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, f32::min)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        // Where the target has no such instruction, `f32::mul_add` is a slow function call.
        #[cfg(target_arch = "aarch64")]
        let result = std::array::from_fn(|i| self.0[i].mul_add(factor.0[i], summand.0[i]));
        #[cfg(not(target_arch = "aarch64"))]
        let result = std::array::from_fn(|i| self.0[i] * factor.0[i] + summand.0[i]);
        Self(result)
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        Self(self.0.map(|v| f32::from_bits((v.to_bits() << 23).wrapping_add(127 << 23))))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// One 512-bit register.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    impl Lanes for Avx512 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn load_shorts(from: *const i16) -> Self {
            Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256(from.cast()))) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            Self(unsafe { _mm512_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, summand.0) })
        }
        #[inline(always)]
        unsafe fn prefetch(from: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            unsafe {
                let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
                Self(_mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(127 << 23))))
            }
        }
    }

    /// Two 256-bit registers.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            let half = unsafe { _mm256_set1_ps(value) };
            Self(half, half)
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn load_shorts(from: *const i16) -> Self {
            unsafe {
                let half = |from: *const i16| _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128(from.cast())));
                Self(half(from), half(from.add(8)))
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, summand.0), _mm256_fmadd_ps(self.1, factor.1, summand.1)) }
        }
        #[inline(always)]
        unsafe fn prefetch(from: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            unsafe {
                let power = |half: __m256| {
                    let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(half));
                    _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(127 << 23)))
                };
                Self(power(self.0), power(self.1))
            }
        }
    }
}
