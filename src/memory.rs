//! Giving memory back to the system.

/// Returns what the allocator holds on to of memory that is no longer used: after a model was loaded, which passes through several
/// forms, that is as much again as the model itself. glibc keeps it otherwise, for a use that never comes; other allocators return
/// such large pieces by themselves. Takes a few milliseconds.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, touches free memory alone, and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
