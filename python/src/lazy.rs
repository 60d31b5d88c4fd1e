//! A value that is made when it is first needed. It has no lock, so a forked child never waits for a thread of its
//! parent; threads that need it at once may each make it, and keep one.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

pub struct Lazy<T>(AtomicPtr<T>);

// SAFETY: it owns a `T`, and gives shared references to it.
unsafe impl<T: Send + Sync> Sync for Lazy<T> {}
// SAFETY: it owns a `T`.
unsafe impl<T: Send> Send for Lazy<T> {}

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Lazy(AtomicPtr::new(ptr::null_mut()))
    }
}

impl<T> Lazy<T> {
    /// The value, made by `make` if there is none.
    pub fn get<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let mut found = self.0.load(Ordering::Acquire);
        if found.is_null() {
            let made = Box::into_raw(Box::new(make()?));
            match self.0.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => found = made,
                Err(other) => {
                    // SAFETY: it was made above, and is known to no one else.
                    drop(unsafe { Box::from_raw(made) });
                    found = other;
                }
            }
        }
        // SAFETY: it is not null, and what it points to is dropped with `self` only.
        Ok(unsafe { &*found })
    }
}

impl<T> Drop for Lazy<T> {
    fn drop(&mut self) {
        let found = *self.0.get_mut();
        if !found.is_null() {
            // SAFETY: it came from a box, and no reference outlives `self`.
            drop(unsafe { Box::from_raw(found) });
        }
    }
}
