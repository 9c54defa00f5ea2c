//! Something for each thread that works at a time, made when it is first used.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A thread finds in its slot what it left there, so that a core finds its own memory warm; threads that come after
/// others have ended find what those left.
pub struct ThreadSlots<T> {
    slots: Vec<Mutex<Option<T>>>,
}

impl<T> ThreadSlots<T> {
    /// As many slots as cores; threads beyond that wait for each other.
    pub fn new() -> Self {
        let num_cores = std::thread::available_parallelism().map_or(1, usize::from);
        ThreadSlots {
            slots: (0..num_cores).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// The slot of this thread, or another that is free.
    pub fn lock(&self) -> MutexGuard<'_, Option<T>> {
        let own = NUMBER.with(|number| number.0) % self.slots.len();
        let (before, from_own) = self.slots.split_at(own);
        let slots = from_own.iter().chain(before);
        let wait = || lock(&self.slots[own]);
        slots
            .filter_map(|slot| slot.try_lock().ok())
            .next()
            .unwrap_or_else(wait)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers in use. A new one is the lowest that is free, so they stay as low as the number of living threads.
struct Numbers(Mutex<BTreeSet<usize>>);

impl Numbers {
    fn take(&self) -> usize {
        let mut taken = lock(&self.0);
        let free = (0..).zip(taken.iter()).find(|(number, taken)| number != *taken);
        let number = free.map_or(taken.len(), |(number, _)| number);
        taken.insert(number);
        number
    }

    fn give_back(&self, number: usize) {
        lock(&self.0).remove(&number);
    }
}

static NUMBERS: Numbers = Numbers(Mutex::new(BTreeSet::new()));

/// The number of a thread, until it ends.
struct Number(usize);

impl Drop for Number {
    fn drop(&mut self) {
        NUMBERS.give_back(self.0);
    }
}

thread_local! {
    static NUMBER: Number = Number(NUMBERS.take());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken() {
        let numbers = Numbers(Mutex::default());
        assert_eq!([numbers.take(), numbers.take(), numbers.take()], [0, 1, 2]);
        numbers.give_back(1);
        assert_eq!([numbers.take(), numbers.take()], [1, 3]);
        numbers.give_back(0);
        numbers.give_back(3);
        assert_eq!([numbers.take(), numbers.take(), numbers.take()], [0, 3, 4]);
    }

    #[test]
    fn a_thread_finds_what_it_left() {
        let slots = ThreadSlots::new();
        *slots.lock() = Some(7);
        assert_eq!(*slots.lock(), Some(7));
        // While it is held, another thread gets another slot, or waits where there is but one.
        let held = slots.lock();
        if slots.slots.len() > 1 {
            let other = std::thread::scope(|scope| scope.spawn(|| *slots.lock()).join());
            assert_eq!(other.unwrap(), None);
        }
        drop(held);
    }
}
