//! A mailbox for one message: a newer one takes the place of one that still waits.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// The sender's end.
#[derive(Debug)]
pub struct Latest<T> {
    put: Sender<T>,
    // A clone of the receiver's end: taking a waiting message back is how a newer one supersedes it.
    waiting: Receiver<T>,
}

impl<T> Latest<T> {
    /// Both ends.
    pub fn new() -> (Self, Receiver<T>) {
        let (put, waiting) = bounded(1);
        (Self { put, waiting: waiting.clone() }, waiting)
    }

    /// Puts a message in place of any that still waits. Never blocks.
    pub fn put(&self, message: T) {
        let mut message = message;
        loop {
            match self.put.try_send(message) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => {
                    message = back;
                    let _ = self.waiting.try_recv();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_is_kept() {
        let (latest, receiver) = Latest::new();
        for i in 0..10 {
            latest.put(i);
        }
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [9]);
        drop(receiver);
        latest.put(10);
    }
}
