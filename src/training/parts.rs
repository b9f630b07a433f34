//! A batch in parts, each on a thread of its own.
//!
//! The tensor library's operators use little of a processor's second core, and less of its eighth. Whole forward and backward passes side
//! by side use all of them. Only on processors: a card takes a batch at once.

use burn::tensor::{Device, TensorData};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A batch that can be cut.
pub trait Divide: Sized {
    /// `sizes` examples each, in their order; together they are all there are.
    fn divide(self, sizes: &[usize]) -> Vec<Self>;
}

/// The rows (along the first dimension) of 32-bit data.
pub(super) fn cut(data: TensorData, sizes: &[usize]) -> Vec<TensorData> {
    let mut shape = data.shape().to_vec();
    let width: usize = shape[1..].iter().product();
    let values: Vec<f32> = data.try_to_vec().expect("batches are 32-bit floats");
    let mut values = values.into_iter();
    let mut part = |size: &usize| {
        shape[0] = *size;
        TensorData::new(values.by_ref().take(size * width).collect::<Vec<_>>(), shape.clone())
    };
    sizes.iter().map(&mut part).collect()
}

/// The same of anything that there is one of for each example.
pub(super) fn each<T>(values: Vec<T>, sizes: &[usize]) -> Vec<Vec<T>> {
    let mut values = values.into_iter();
    sizes.iter().map(|size| values.by_ref().take(*size).collect()).collect()
}

/// Threads that parts of batches are worked on by.
pub(super) struct Threads(Vec<ThreadPool>);

impl Threads {
    /// One for each core of a processor; none where the batch is better left whole.
    pub fn on(device: &Device, batch: usize) -> Self {
        Self::new(if device.clone().inner() == Device::flex() { rayon::current_num_threads().min(batch) } else { 1 })
    }

    /// So many, or as many as the system gives; none instead of one.
    pub fn new(count: usize) -> Self {
        // A pool of one: what runs in it does not ask for the other cores, which have parts of their own.
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).build().ok();
        Self((0..count).filter(|_| count > 1).map_while(pool).collect())
    }

    /// How many examples each gets of a batch; one part where there are no threads.
    pub fn shares(&self, batch: usize) -> Vec<usize> {
        let count = self.0.len().max(1);
        (0..count).map(|i| batch / count + usize::from(i < batch % count)).collect()
    }

    /// What `work` makes of each item, all at the same time; there are at most as many as [`Threads::shares`]. A panic goes on to the
    /// caller.
    pub fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        if self.0.is_empty() {
            return items.into_iter().map(work).collect();
        }
        let work = &work;
        std::thread::scope(|scope| {
            let running: Vec<_> =
                self.0.iter().zip(items).map(|(pool, item)| scope.spawn(move || pool.install(move || work(item)))).collect();
            let finished = running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            finished.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole_in_its_order() {
        let data = TensorData::new((0..14).map(|v| v as f32).collect::<Vec<_>>(), [7, 2]);
        let sizes = Threads::new(3).shares(7);
        assert_eq!(sizes, [3, 2, 2]);
        let parts = cut(data.clone(), &sizes);
        assert!(parts.iter().zip(&sizes).all(|(part, size)| part.shape().to_vec() == [*size, 2]));
        let together: Vec<f32> = parts.into_iter().flat_map(|part| part.try_to_vec::<f32>().expect("floats")).collect();
        assert_eq!(together, data.try_to_vec::<f32>().expect("floats"));
        assert_eq!(each(vec![1, 2, 3], &[2, 1]), [vec![1, 2], vec![3]]);
    }

    #[test]
    fn a_panic_in_a_part_is_told() {
        let threads = Threads::new(2);
        assert_eq!(threads.map(vec![1, 2], |i| i * 2), [2, 4]);
        let work = |i| if i == 2 { panic!("lost") } else { i };
        let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| threads.map(vec![1, 2], work)));
        assert_eq!(lost.expect_err("a panic").downcast_ref::<&str>(), Some(&"lost"));
    }
}
