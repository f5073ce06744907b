//! Packets that wait for their moment, earliest first, at most so many.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Items by the moment they are due; those of one moment leave in the order they came.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    arrivals: u64,
    limit: usize,
}

#[derive(Debug)]
struct Entry<T> {
    due_ns: u64,
    arrival: u64,
    item: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl<T> Eq for Entry<T> {}
impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due_ns, self.arrival).cmp(&(other.due_ns, other.arrival))
    }
}

impl<T> Waiting<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            heap: BinaryHeap::new(),
            arrivals: 0,
            limit,
        }
    }

    /// Gives the item back when the limit is reached.
    pub(crate) fn add(&mut self, due_ns: u64, item: T) -> Result<(), T> {
        if self.heap.len() >= self.limit {
            return Err(item);
        }
        self.arrivals += 1;
        self.heap.push(Reverse(Entry {
            due_ns,
            arrival: self.arrivals,
            item,
        }));
        Ok(())
    }

    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.due_ns)
    }

    /// The earliest item, if its moment has come.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<T> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_leave_in_order_when_they_are_due_and_never_exceed_the_limit() {
        let mut waiting = Waiting::new(3);
        assert_eq!(waiting.add(20, 'b'), Ok(()));
        assert_eq!(waiting.add(10, 'a'), Ok(()));
        assert_eq!(waiting.add(20, 'c'), Ok(()));
        assert_eq!(waiting.add(1, 'x'), Err('x'));
        assert_eq!(waiting.next_due_ns(), Some(10));
        assert_eq!(waiting.take_due(9), None);
        assert_eq!(waiting.take_due(10), Some('a'));
        assert_eq!(waiting.take_due(30), Some('b'));
        assert_eq!(waiting.take_due(30), Some('c'));
        assert_eq!((waiting.take_due(30), waiting.next_due_ns()), (None, None));
    }
}
