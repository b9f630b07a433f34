//! Passes that were told to the card once and are then repeated.
//!
//! Telling a card of a kernel takes longer than many of a small network's kernels take to run: their shapes are worked out, memory is
//! found, what they read and write is bound to them. All of that comes out the same at every step of a decode. So the second pass of a
//! kind is recorded, with places of its own for what comes in and what goes out, and later ones only fill these places and run what was
//! recorded.

use std::collections::VecDeque;
use std::sync::Arc;

use burn::tensor::{DType, StreamId};
use burn_cubecl::cubecl::client::Graph;
use burn_cubecl::cubecl::server::ServerError;
use burn_cubecl::tensor::CubeTensor;

use super::surface::{Rows, Surface};

/// 32-bit values that a pass reads: a tensor, or a part of one.
#[derive(Clone)]
pub struct Input {
    pub tensor: CubeTensor,
    /// Where they start in it.
    pub first: usize,
    pub shape: Vec<usize>,
}

impl Input {
    pub fn all(tensor: &CubeTensor) -> Self {
        Self { tensor: tensor.clone(), first: 0, shape: tensor.meta.shape().to_vec() }
    }

    /// The row that all images share.
    pub fn row(rows: &Rows) -> Self {
        let width = rows.width();
        Self { tensor: rows.tensor.clone(), first: rows.first * width, shape: vec![1, width] }
    }
}

/// One kind of pass.
#[derive(Debug, Clone, PartialEq)]
struct Kind {
    /// Work of different streams is not in order, so a recording is for one of them.
    stream: StreamId,
    shapes: Vec<Vec<usize>>,
}

#[derive(Debug, Clone)]
enum State {
    /// Ran once, so that all kernels are compiled and all parameters uploaded.
    Seen,
    Recorded(Arc<Recording>),
    /// The card, or the library on it, does not record.
    Refused,
}

/// The kinds of passes that there were, the last one at the end.
#[derive(Debug, Default)]
pub struct Recorder(VecDeque<(Kind, State)>);

impl Recorder {
    /// Recordings that are kept: their memory is nobody else's for as long.
    const MOST: usize = 4;

    /// The pass from its recording; `None` the first time that there is one of this kind, or where it cannot be recorded.
    ///
    /// `pass` makes outputs of inputs and must do nothing but start kernels; all else that it reads has to live as long as this.
    pub fn repeat(&mut self, on: &Surface, inputs: &[Input], pass: impl Fn(&[CubeTensor]) -> Vec<CubeTensor>) -> Option<Vec<CubeTensor>> {
        let kind = Kind { stream: StreamId::current(), shapes: inputs.iter().map(|input| input.shape.clone()).collect() };
        let place = self.0.iter().position(|(known, _)| *known == kind);
        let state = match place.and_then(|place| self.0.remove(place)) {
            None => State::Seen,
            Some((_, State::Seen)) => match Recording::new(on, inputs, pass) {
                Ok(recording) => State::Recorded(Arc::new(recording)),
                Err(e) => {
                    log::debug!("a pass could not be recorded: {e}");
                    State::Refused
                }
            },
            Some((_, state)) => state,
        };
        let (state, outputs) = match state {
            State::Recorded(recording) => match recording.play(on, inputs) {
                Ok(outputs) => (State::Recorded(recording), Some(outputs)),
                Err(e) => {
                    log::debug!("a recorded pass could not be repeated: {e}");
                    (State::Refused, None)
                }
            },
            state => (state, None),
        };
        self.0.push_back((kind, state));
        if self.0.len() > Self::MOST {
            self.0.pop_front();
        }
        outputs
    }
}

/// The kernels of one pass, bound to the memory that they had when it was recorded.
#[derive(Debug)]
struct Recording {
    graph: Graph,
    inputs: Vec<CubeTensor>,
    outputs: Vec<CubeTensor>,
}

impl Recording {
    fn new(on: &Surface, inputs: &[Input], pass: impl Fn(&[CubeTensor]) -> Vec<CubeTensor>) -> Result<Self, ServerError> {
        let client = &on.client;
        let own: Vec<CubeTensor> = inputs.iter().map(|input| on.copied(&input.tensor, input.first, &input.shape)).collect();
        client.graph_prepare()?;
        // The memory of this one is what the recorded one finds free: while recording, none can be had.
        drop(pass(&own));
        client.start_capture()?;
        let outputs = pass(&own);
        let graph = client.stop_capture()?;
        Ok(Self { graph, inputs: own, outputs })
    }

    /// The outputs for these inputs, which have the shapes of those that it was recorded with.
    fn play(&self, on: &Surface, inputs: &[Input]) -> Result<Vec<CubeTensor>, ServerError> {
        for (input, own) in inputs.iter().zip(&self.inputs) {
            on.copy(&input.tensor, input.first, own);
        }
        // SAFETY: what the kernels read and write lives: inputs and outputs are held here, parameters and all that a pass reads besides by
        // whoever has the recorder, and what lies between is guarded by the graph. A recording is played on its own stream alone, where
        // the copies to and from it are in order with it.
        unsafe { self.graph.replay() }?;
        // Whoever gets the outputs may write into them, or still have them when the next pass comes.
        Ok(self.outputs.iter().map(|output| on.copied(output, 0, output.meta.shape())).collect())
    }
}

impl Surface {
    /// 32-bit values from `first` on, in a place of their own.
    fn copied(&self, from: &CubeTensor, first: usize, shape: &[usize]) -> CubeTensor {
        let to = self.empty(shape, DType::F32);
        self.copy(from, first, &to);
        to
    }
}

#[cfg(test)]
mod tests {
    use burn_cubecl::CubeDevice;

    use super::*;
    use crate::device::DeviceChoice;

    fn surface() -> Option<Surface> {
        DeviceChoice::Gpu.open().ok()?;
        let device = CubeDevice::default();
        Some(Surface { client: device.client(), device, compute: DType::F32 })
    }

    #[test]
    fn the_second_pass_of_a_kind_is_recorded_and_later_ones_repeat_it() {
        let Some(on) = surface() else {
            println!("SKIPPED the_second_pass_of_a_kind_is_recorded_and_later_ones_repeat_it: wgpu finds no adapter on this machine");
            return;
        };
        let read = |outputs: &[CubeTensor]| {
            let [output] = outputs else { panic!("one output") };
            let bytes = on.client.read_one(output.handle.clone()).expect("values");
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>()
        };
        let input = |values: &[f32]| Input { tensor: on.upload_floats(values, &[values.len()]), first: 1, shape: vec![values.len() - 1] };
        let started = std::cell::Cell::new(0);
        let double = |inputs: &[CubeTensor]| {
            started.set(started.get() + 1);
            vec![on.add(&inputs[0], &inputs[0], None)]
        };
        let mut recorder = Recorder::default();
        assert!(recorder.repeat(&on, &[input(&[9.0, 1.0, 2.0])], double).is_none());
        let second = recorder.repeat(&on, &[input(&[9.0, 3.0, 4.0])], double).expect("a recording");
        // Once to find memory, once to be recorded.
        assert_eq!(started.get(), 2);
        let third = recorder.repeat(&on, &[input(&[9.0, 5.0, 6.0])], double).expect("the same recording");
        assert_eq!(started.get(), 2);
        // What was handed out stays as it is.
        assert_eq!([read(&second), read(&third)], [[6.0, 8.0], [10.0, 12.0]]);

        // Another shape is another kind, and kinds that were not asked for lately are forgotten.
        for width in 2..2 + Recorder::MOST {
            assert!(recorder.repeat(&on, &[input(&vec![0.0; 2 + width])], double).is_none());
        }
        assert!(recorder.repeat(&on, &[input(&[9.0, 1.0, 2.0])], double).is_none());
        assert_eq!(started.get(), 2);
    }
}
