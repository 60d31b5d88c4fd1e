//! Giving memory back to the system between two phases of work.
//!
//! glibc keeps freed memory for the thread that allocated it, and a few bytes that are in use behind it are enough that
//! it stays with the process. So what the threads of one phase used is in the way of the next one.

/// Less than this is not worth the time: the pages that are used again must be cleared by the kernel.
const WORTH: usize = 32 << 20;

/// Gives free memory back, after about this many bytes were freed that will not be needed again.
pub(crate) fn give_back(freed: usize) {
    if freed < WORTH {
        return;
    }
    // Other C libraries (musl) return large blocks when they are freed.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it touches only memory that the allocator has and nobody uses, under the allocator's locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
