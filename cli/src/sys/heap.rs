//! The heap of a process that lives for milliseconds: dlmalloc, whose memory the kernel fills with pages when it gives it
//! (`MAP_POPULATE`). Each page that were touched first by this process would be a trap of its own: half of them all, and
//! a twentieth of a `run`.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::{Allocator, Dlmalloc};

/// The global allocator.
pub(crate) struct Heap(Mutex<Dlmalloc<Pages>>);

/// Where its memory comes from.
struct Pages;

/// What every processor has that this runs on, or has more of.
const PAGE: usize = 4096;

impl Heap {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Dlmalloc::new_with_allocator(Pages)))
    }

    /// Nothing panics while it holds the lock, and locking allocates nothing.
    fn lock(&self) -> MutexGuard<'_, Dlmalloc<Pages>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: dlmalloc's memory is as its caller asks for, and one thread at a time is in it.
unsafe impl GlobalAlloc for Heap {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: size and alignment are a layout's.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: size and alignment are a layout's.
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller has it from here, with this layout.
        unsafe { self.lock().free(block, layout.size(), layout.align()) }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller has it from here, with this layout.
        unsafe { self.lock().realloc(block, layout.size(), layout.align(), size) }
    }
}

// SAFETY: what is answered is a mapping of that size that nobody else has, or null.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_POPULATE;
        // SAFETY: a new mapping overlaps nothing.
        let address = unsafe { libc::mmap(null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if address == libc::MAP_FAILED { (null_mut(), 0, 0) } else { (address.cast(), size, 0) }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        null_mut()
    }

    fn free_part(&self, address: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: the new size is less than the old one, which is that of a mapping.
        self.free(unsafe { address.add(new) }, old - new)
    }

    fn free(&self, address: *mut u8, size: usize) -> bool {
        // SAFETY: dlmalloc gives back what it got here, and nobody has it any more.
        unsafe { libc::munmap(address.cast(), size) == 0 }
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}
