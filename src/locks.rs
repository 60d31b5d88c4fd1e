//! Locks that a panic does not poison, and that a forked child can use.
//!
//! A child of `fork` has one thread, and the memory of all: a lock that another thread of the parent held at that
//! moment is never released in the child, and what it protects may be half changed. A program that reads with several
//! threads and forks (a `DataLoader` of Python does) would hang in such children. So a lock that lives longer than one
//! call is made with what a child does about it:
//!
//! - [`Mutex::cache`], [`RwLock::cache`]: if it was held, the child begins with an empty value. For caches.
//! - [`Mutex::of_process`], [`RwLock::of_process`]: the child always begins with an empty value.
//! - [`RwLock::table`]: the child keeps the value. `fork` waits while one is written, so writers must be quick.
//!
//! Locks made by `new` belong to a call and its threads: a child does not come to them.
//!
//! The locks are those of `std`, each of which is a word of memory. Those of parking_lot share a table of waiting
//! threads, which has locks of its own, so a child can hang there.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{self, PoisonError, TryLockError};
use std::time::Duration;

/// How many forks lie between the first process and this one. It never changes without a fork.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// Held while the value of a [`RwLock::table`] is written, and during a fork.
static GATE: sync::Mutex<()> = sync::Mutex::new(());
/// The guard of [`GATE`] during a fork.
static FORKING: Forking = Forking(UnsafeCell::new(None));

struct Forking(UnsafeCell<Option<sync::MutexGuard<'static, ()>>>);

// SAFETY: only the thread that holds `GATE` reads or writes it.
unsafe impl Sync for Forking {}

/// From now on the locks notice forks. To be called before several threads use them.
pub(crate) fn watch_forks() {
    static WATCHING: AtomicBool = AtomicBool::new(false);
    if !WATCHING.swap(true, Ordering::Relaxed) {
        // SAFETY: the functions only lock, unlock and count. If the call fails, forks are as unsafe as without it.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
    }
}

extern "C" fn before_fork() {
    let gate = GATE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: this thread holds the gate.
    unsafe { *FORKING.0.get() = Some(gate) };
}

extern "C" fn after_fork() {
    // SAFETY: this thread took the gate in `before_fork`.
    drop(unsafe { (*FORKING.0.get()).take() });
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    after_fork();
}

/// What becomes of a value in a forked child.
enum InChild<T> {
    /// It is not used there.
    Unused,
    /// It is replaced by this if the lock was held.
    ReplacedIfHeld(fn() -> T),
    /// It is replaced by this.
    Replaced(fn() -> T),
    /// It is kept: it is not written during a fork.
    Kept,
}

/// The generation of the process that last used a lock, times two; plus one while the lock is renewed.
struct LastUse(AtomicU64);

impl LastUse {
    /// Calls `renew` once if the process was forked since the last use.
    fn check(&self, renew: impl FnOnce()) {
        let now = GENERATION.load(Ordering::Relaxed) << 1;
        if self.0.load(Ordering::Acquire) != now {
            self.renew(now, renew);
        }
    }

    #[cold]
    fn renew(&self, now: u64, renew: impl FnOnce()) {
        loop {
            let seen = self.0.load(Ordering::Acquire);
            if seen == now {
                return;
            }
            // Another thread of this process renews it. (If it is a thread of the parent, the generation differs.)
            if seen == now | 1 {
                std::thread::yield_now();
            } else if self.0.compare_exchange(seen, now | 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                renew();
                self.0.store(now, Ordering::Release);
                return;
            }
        }
    }
}

/// A mutual exclusion.
pub(crate) struct Mutex<T> {
    last_use: LastUse,
    lock: UnsafeCell<sync::Mutex<()>>,
    value: UnsafeCell<T>,
    in_child: InChild<T>,
}

// SAFETY: as of `std`'s Mutex: the value is reached through the lock only. `renew` replaces lock and value before any
// thread of its process reaches them.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    const fn with(value: T, in_child: InChild<T>) -> Mutex<T> {
        let lock = UnsafeCell::new(sync::Mutex::new(()));
        Mutex { last_use: LastUse(AtomicU64::new(0)), lock, value: UnsafeCell::new(value), in_child }
    }

    /// A lock of one call and its threads.
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex::with(value, InChild::Unused)
    }

    /// See the module.
    pub(crate) const fn of_process(value: T, empty: fn() -> T) -> Mutex<T> {
        Mutex::with(value, InChild::Replaced(empty))
    }

    fn lock_word(&self) -> &sync::Mutex<()> {
        if !matches!(self.in_child, InChild::Unused) {
            self.last_use.check(|| self.renew());
        }
        // SAFETY: only `renew` writes it, and no thread of this process comes here before `renew` has ended.
        unsafe { &*self.lock.get() }
    }

    fn renew(&self) {
        // SAFETY: no other thread of this process uses lock or value before this returns. A value that may be half
        // changed is overwritten without being dropped.
        unsafe {
            let was_held = matches!((*self.lock.get()).try_lock(), Err(TryLockError::WouldBlock));
            ptr::write(self.lock.get(), sync::Mutex::new(()));
            match self.in_child {
                InChild::ReplacedIfHeld(empty) if was_held => ptr::write(self.value.get(), empty()),
                InChild::Replaced(empty) => ptr::write(self.value.get(), empty()),
                _ => {}
            }
        }
    }

    /// Waits for the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { held: Some(self.lock_word().lock().unwrap_or_else(PoisonError::into_inner)), value: &self.value }
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.lock_word().try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { held: Some(held), value: &self.value })
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    pub(crate) fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: Default> Mutex<T> {
    /// An empty cache; see the module.
    pub(crate) fn cache() -> Mutex<T> {
        Mutex::with(T::default(), InChild::ReplacedIfHeld(T::default))
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

/// Holds a [`Mutex`] until it is dropped.
pub(crate) struct MutexGuard<'a, T> {
    /// `None` only while [`Condvar`] waits.
    held: Option<sync::MutexGuard<'a, ()>>,
    value: &'a UnsafeCell<T>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held.
        unsafe { &mut *self.value.get() }
    }
}

/// Lets threads wait for others that change what a [`Mutex`] protects.
#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Condvar {
        Condvar(sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.held = guard.held.take().map(|held| self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) {
        let wait = |held| self.0.wait_timeout(held, time).unwrap_or_else(PoisonError::into_inner).0;
        guard.held = guard.held.take().map(wait);
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A lock that several readers or one writer hold.
pub(crate) struct RwLock<T> {
    last_use: LastUse,
    lock: UnsafeCell<sync::RwLock<()>>,
    value: UnsafeCell<T>,
    in_child: InChild<T>,
}

// SAFETY: as of `std`'s RwLock; see `Mutex` for `renew`.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for RwLock<T> {}

impl<T> RwLock<T> {
    const fn with(value: T, in_child: InChild<T>) -> RwLock<T> {
        let lock = UnsafeCell::new(sync::RwLock::new(()));
        RwLock { last_use: LastUse(AtomicU64::new(0)), lock, value: UnsafeCell::new(value), in_child }
    }

    /// A lock of one call and its threads.
    pub(crate) const fn new(value: T) -> RwLock<T> {
        RwLock::with(value, InChild::Unused)
    }

    /// See the module.
    pub(crate) const fn table(value: T) -> RwLock<T> {
        RwLock::with(value, InChild::Kept)
    }

    fn lock_word(&self) -> &sync::RwLock<()> {
        if !matches!(self.in_child, InChild::Unused) {
            self.last_use.check(|| self.renew());
        }
        // SAFETY: only `renew` writes it, and no thread of this process comes here before `renew` has ended.
        unsafe { &*self.lock.get() }
    }

    fn renew(&self) {
        // SAFETY: as in `Mutex::renew`. Readers change nothing, so after them the value is whole.
        unsafe {
            let was_written = matches!((*self.lock.get()).try_read(), Err(TryLockError::WouldBlock));
            ptr::write(self.lock.get(), sync::RwLock::new(()));
            match self.in_child {
                InChild::ReplacedIfHeld(empty) if was_written => ptr::write(self.value.get(), empty()),
                InChild::Replaced(empty) => ptr::write(self.value.get(), empty()),
                _ => {}
            }
        }
    }

    /// Waits until no writer holds the lock.
    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        let held = self.lock_word().read().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the lock is held.
        ReadGuard { value: unsafe { &*self.value.get() }, _held: held }
    }

    /// Waits until nothing else holds the lock.
    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        let is_kept = matches!(self.in_child, InChild::Kept);
        let gate = is_kept.then(|| GATE.lock().unwrap_or_else(PoisonError::into_inner));
        let held = self.lock_word().write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the lock is held.
        WriteGuard { value: unsafe { &mut *self.value.get() }, _held: held, _gate: gate }
    }
}

impl<T: Default> RwLock<T> {
    /// An empty cache; see the module.
    pub(crate) fn cache() -> RwLock<T> {
        RwLock::with(T::default(), InChild::ReplacedIfHeld(T::default))
    }

    /// See the module.
    pub(crate) fn of_process() -> RwLock<T> {
        RwLock::with(T::default(), InChild::Replaced(T::default))
    }
}

impl<T> std::fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RwLock").finish_non_exhaustive()
    }
}

/// Holds a [`RwLock`] for reading until it is dropped.
pub(crate) struct ReadGuard<'a, T> {
    value: &'a T,
    _held: sync::RwLockReadGuard<'a, ()>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value
    }
}

/// Holds a [`RwLock`] for writing until it is dropped.
pub(crate) struct WriteGuard<'a, T> {
    value: &'a mut T,
    _held: sync::RwLockWriteGuard<'a, ()>,
    _gate: Option<sync::MutexGuard<'static, ()>>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `child` in a forked child, and fails if it hangs or returns false.
    fn forked(child: impl FnOnce() -> bool) {
        // SAFETY: the child only uses the locks and exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let status = if child() { 0 } else { 1 };
            // SAFETY: it ends this process.
            unsafe { libc::_exit(status) };
        }
        let mut status = 0;
        for _ in 0..1000 {
            // SAFETY: the status is a valid place, the child is ours.
            if unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == pid {
                assert_eq!(status, 0, "the child's exit status");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // SAFETY: the child is ours.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        panic!("the child hangs");
    }

    #[test]
    fn a_child_does_not_wait_for_threads_of_its_parent() {
        watch_forks();
        let (cache, of_process) = (Mutex::<Vec<u8>>::cache(), Mutex::of_process(vec![1u8], Vec::new));
        let (read, written, table) = (RwLock::<Vec<u8>>::cache(), RwLock::<Vec<u8>>::cache(), RwLock::table(vec![0u8]));
        read.write().push(1);
        let (met, end) = (sync::Barrier::new(2), sync::Barrier::new(2));
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut held = (cache.lock(), read.read(), written.write(), table.read(), of_process.lock());
                held.0.push(1);
                held.2.push(1);
                met.wait();
                end.wait();
            });
            met.wait();
            forked(|| cache.lock().is_empty() && written.write().is_empty() && of_process.lock().is_empty());
            forked(|| *read.read() == [1] && *table.read() == [0]);
            forked(|| {
                read.write().push(2);
                table.write().push(2);
                read.read().len() == 2 && table.read().len() == 2
            });
            end.wait();
        });
        assert_eq!((cache.lock().len(), written.read().len(), of_process.lock().len()), (1, 1, 1), "in the parent");
    }

    #[test]
    fn a_child_keeps_a_cache_that_was_free_and_forgets_what_belongs_to_its_parent() {
        watch_forks();
        let (cache, of_process) = (Mutex::<u8>::cache(), RwLock::<u8>::of_process());
        (*cache.lock(), *of_process.write()) = (7, 7);
        forked(|| {
            let kept = *cache.lock() == 7 && *of_process.read() == 0;
            *of_process.write() = 8;
            kept && *of_process.read() == 8
        });
        assert_eq!((*cache.lock(), *of_process.read()), (7, 7));
    }

    #[test]
    fn a_panic_poisons_nothing_and_a_held_lock_is_not_taken_twice() {
        let lock = Mutex::new(1);
        let thread = std::thread::scope(|s| {
            let held = || {
                let _held = lock.lock();
                panic!("on purpose");
            };
            s.spawn(held).join()
        });
        assert!(thread.is_err());
        let held = lock.lock();
        assert!(*held == 1 && lock.try_lock().is_none());
    }
}
