//! A tape of numbers from which a query is read off: proptest makes and shrinks the tape, the grammar consumes it.
//!
//! Where the tape has ended every choice is the first one. So the first must be the simplest, and lead to an end: a shorter
//! tape, or smaller numbers, are then a simpler query.

pub struct Choices<'a> {
    tape: &'a [u8],
    at: usize,
}

impl<'a> Choices<'a> {
    pub fn new(tape: &'a [u8]) -> Self {
        Self { tape, at: 0 }
    }

    /// A number from 0 to `count` - 1.
    pub fn below(&mut self, count: usize) -> usize {
        let number = self.tape.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(number) % count.max(1)
    }

    pub fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// True once in so many times.
    pub fn rarely(&mut self, one_in: usize) -> bool {
        self.below(one_in) == one_in - 1
    }
}
