//! Memory for feature maps and weights: aligned to a cache line, and used again instead of being given back.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use super::lanes::LANE;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LANE]);

/// Floats that start on a cache line.
#[derive(Debug, Clone, Default)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; LANE]); len.div_ceil(LANE)], len }
    }

    /// A copy, with zeros up to `len`.
    pub fn padded(values: &[f32], len: usize) -> Self {
        let mut copy = Self::zeros(len.max(values.len()));
        copy[..values.len()].copy_from_slice(values);
        copy
    }

    /// The same memory as 16-bit integers, twice as many.
    pub fn as_shorts(&self) -> &[i16] {
        // SAFETY: every bit pattern is an `i16`, whose alignment is less, and the memory is that of `len` floats at least.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), 2 * self.len) }
    }

    /// As [`Aligned::as_shorts`], to write to.
    pub fn as_shorts_mut(&mut self) -> &mut [i16] {
        // SAFETY: as above, every bit pattern is an `f32` as well, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), 2 * self.len) }
    }

    fn capacity(&self) -> usize {
        self.lines.len() * LANE
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is sixteen floats and nothing else, and there are at least `len` of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Buffers that are free for the next layer. A step asks for the same sizes every time, so after the first it allocates nothing: fresh
/// memory would be paid for page by page.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Mutex<Vec<Aligned>>>);

impl Pool {
    /// `len` floats with whatever the last user left in them.
    pub fn take(&self, len: usize) -> Buffer {
        let mut free = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let fitting = free.iter().enumerate().filter(|(_, b)| b.capacity() >= len && b.capacity() <= 2 * len + 1024);
        let best = fitting.min_by_key(|(_, b)| b.capacity()).map(|(i, _)| i);
        let memory = match best {
            Some(index) => {
                let mut memory = free.swap_remove(index);
                memory.len = len;
                memory
            }
            None => {
                drop(free);
                Aligned::zeros(len)
            }
        };
        Buffer { memory, pool: self.clone() }
    }

    /// Floats that wait for their next user.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.0.lock().unwrap().iter().map(Aligned::capacity).sum()
    }
}

/// Floats from a [`Pool`], which they return to.
#[derive(Debug)]
pub struct Buffer {
    memory: Aligned,
    pool: Pool,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.pool.0.lock().unwrap_or_else(|e| e.into_inner()).push(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_on_a_cache_line_and_are_used_again() {
        let pool = Pool::default();
        let mut first = pool.take(100);
        assert_eq!((first.len(), first.as_ptr() as usize % 64), (100, 0));
        first[99] = 7.0;
        let address = first.as_ptr();
        drop(first);
        let again = pool.take(97);
        assert_eq!((again.len(), again.as_ptr()), (97, address));
        assert_eq!(pool.free(), 0);
        assert_ne!(pool.take(97).as_ptr(), address, "one buffer has one user");
    }
}
