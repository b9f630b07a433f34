//! Passes that were told to the card once and are then repeated.
//!
//! Telling a card of a kernel takes longer than many of a small network's kernels take to run: their shapes are worked out, memory is
//! found, what they read and write is bound to them. All of that comes out the same at every step of a decode. So the second pass of a
//! kind is recorded, with places of its own for what comes in and what goes out, and later ones only fill these places and run what was
//! recorded.

use std::collections::VecDeque;

use burn::tensor::{DType, StreamId};
use burn_cubecl::cubecl::client::{Client, Graph};
use burn_cubecl::cubecl::server::ServerError;
use burn_cubecl::tensor::CubeTensor;

use super::plans;
use super::surface::{Rows, Surface};

/// 32-bit values that a pass reads: a tensor, or a part of one.
#[derive(Clone)]
pub struct Input {
    tensor: CubeTensor,
    /// Where they start in it.
    first: usize,
    shape: Vec<usize>,
    /// They are what they were under this number: a recording that has those need not be given them again.
    version: Option<u64>,
}

impl Input {
    pub fn all(tensor: &CubeTensor) -> Self {
        Self { tensor: tensor.clone(), first: 0, shape: tensor.meta.shape().to_vec(), version: None }
    }

    /// The row that all images share.
    pub fn row(rows: &Rows) -> Self {
        let width = rows.width();
        Self { tensor: rows.tensor.clone(), first: rows.first * width, shape: vec![1, width], version: None }
    }

    pub fn of_version(self, version: u64) -> Self {
        Self { version: Some(version), ..self }
    }
}

/// One kind of pass.
#[derive(Debug, Clone, PartialEq)]
struct Kind {
    /// Work of different streams is not in order, so a recording is for one of them.
    stream: StreamId,
    shapes: Vec<Vec<usize>>,
}

#[derive(Debug)]
enum State {
    /// Ran once, so that all kernels are compiled and all parameters uploaded. And so often it could not be recorded: the memory that a
    /// recording needs has to be free in that moment, of which there is more with every attempt.
    Seen(u8),
    Recorded(Recording),
}

/// The kinds of passes that there were, the last one at the end.
#[derive(Debug, Default)]
pub struct Recorder {
    kinds: VecDeque<(Kind, State)>,
    /// Of the plans that they were recorded with.
    plans: u64,
}

impl Recorder {
    /// Recordings that are kept: their memory is nobody else's for as long.
    const MOST: usize = 4;
    /// Attempts at one, before the card, or the library on it, counts as one that does not record.
    const ATTEMPTS: u8 = 3;

    /// The pass from its recording; `None` the first time that there is one of this kind, where it cannot be recorded, and while its products
    /// are looked at.
    ///
    /// `pass` makes outputs of inputs and must do nothing but start kernels; all else that it reads has to live as long as this.
    pub fn repeat(&mut self, on: &Surface, inputs: &[Input], pass: impl Fn(&[CubeTensor]) -> Vec<CubeTensor>) -> Option<Vec<CubeTensor>> {
        let stream = StreamId::current();
        if plans::is_looked_at(stream) {
            return None;
        }
        let version = plans::version(stream);
        if std::mem::replace(&mut self.plans, version) != version {
            self.clear();
        }
        let kind = Kind { stream, shapes: inputs.iter().map(|input| input.shape.clone()).collect() };
        let place = self.kinds.iter().position(|(known, _)| *known == kind);
        let state = place.and_then(|place| self.kinds.remove(place)).map(|(_, state)| state);
        let (state, outputs) = match state {
            None => (State::Seen(0), None),
            Some(State::Seen(failures)) if failures >= Self::ATTEMPTS => (State::Seen(failures), None),
            Some(state) => {
                let failures = if let State::Seen(failures) = state { failures } else { 0 };
                let recording = if let State::Recorded(recording) = state { Ok(recording) } else { Recording::new(on, inputs, pass) };
                match recording.and_then(|recording| recording.play(on, inputs)) {
                    Ok((recording, outputs)) => (State::Recorded(recording), Some(outputs)),
                    Err(e) => {
                        log::info!("a pass could not be repeated from a recording: {e}");
                        (State::Seen(failures + 1), None)
                    }
                }
            }
        };
        self.kinds.push_back((kind, state));
        if self.kinds.len() > Self::MOST {
            self.kinds.pop_front();
        }
        outputs
    }

    /// Gives back the memory of all recordings. Passes are recorded anew when they come again.
    pub fn clear(&mut self) {
        self.kinds.clear();
    }
}

/// The kernels of one pass, bound to the memory that they had when it was recorded.
#[derive(Debug)]
struct Recording {
    graph: Graph,
    /// With the version of what is in them.
    inputs: Vec<(CubeTensor, Option<u64>)>,
    outputs: Vec<CubeTensor>,
}

impl Recording {
    fn new(on: &Surface, inputs: &[Input], pass: impl Fn(&[CubeTensor]) -> Vec<CubeTensor>) -> Result<Self, ServerError> {
        let own: Vec<CubeTensor> = inputs.iter().map(|input| on.empty(&input.shape, DType::F32)).collect();
        on.client.graph_prepare()?;
        let window = Window(Some(&on.client));
        // The memory of this one is what the recorded one finds free: while recording, none can be had.
        drop(pass(&own));
        on.client.start_capture()?;
        let outputs = pass(&own);
        Ok(Self { graph: window.close()?, inputs: own.into_iter().map(|own| (own, None)).collect(), outputs })
    }

    /// The outputs for these inputs, which have the shapes of those that it was recorded with.
    fn play(mut self, on: &Surface, inputs: &[Input]) -> Result<(Self, Vec<CubeTensor>), ServerError> {
        for (input, (own, version)) in inputs.iter().zip(&mut self.inputs) {
            if input.version.is_none() || input.version != *version {
                on.copy(&input.tensor, input.first, own);
                *version = input.version;
            }
        }
        // SAFETY: what the kernels read and write lives: inputs and outputs are held here, parameters by whoever has the recorder, and the
        // graph guards all memory that the recording touched, so that what lay between is nobody else's. A recording is played on its own
        // stream alone, where the copies to and from it are in order with it.
        unsafe { self.graph.replay() }?;
        // Whoever gets the outputs may write into them, or still have them when the next pass comes.
        let outputs = self.outputs.iter().map(|output| on.copied(output)).collect();
        Ok((self, outputs))
    }
}

/// A stream that prepares to record, or does. It is left usable, whatever happens.
struct Window<'a>(Option<&'a Client>);

impl Window<'_> {
    fn close(mut self) -> Result<Graph, ServerError> {
        self.0.take().expect("it is closed once").stop_capture()
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.0 {
            let _ = client.stop_capture();
        }
    }
}

impl Surface {
    /// 32-bit values in another place.
    fn copied(&self, from: &CubeTensor) -> CubeTensor {
        let to = self.empty(from.meta.shape(), DType::F32);
        self.copy(from, 0, &to);
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gpu::surface::tests::surface;

    #[test]
    fn the_second_pass_of_a_kind_is_recorded_and_later_ones_repeat_it() {
        let Some(on) = surface(DType::F32) else {
            println!("SKIPPED the_second_pass_of_a_kind_is_recorded_and_later_ones_repeat_it: wgpu finds no adapter on this machine");
            return;
        };
        let read = |outputs: &[CubeTensor]| {
            let [output] = outputs else { panic!("one output") };
            let bytes = on.client.read_one(output.handle.clone()).expect("values");
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>()
        };
        let input = |values: &[f32]| Input {
            tensor: on.upload_floats(values, &[values.len()]),
            first: 1,
            shape: vec![values.len() - 1],
            version: None,
        };
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

        // Under the version that it has, it need not look again.
        for (version, values, doubled) in [(1, [7.0, 8.0], [14.0, 16.0]), (1, [0.0, 0.0], [14.0, 16.0]), (2, [1.0, 2.0], [2.0, 4.0])] {
            let [a, b] = values;
            let outputs = recorder.repeat(&on, &[input(&[9.0, a, b]).of_version(version)], double).expect("the same recording");
            assert_eq!(read(&outputs), doubled);
        }

        // While somebody looks for faster kernels nothing is repeated, and what was recorded before one was found not afterwards either.
        let ones = || [input(&[9.0, 1.0, 1.0])];
        let looking = plans::look(std::time::Duration::MAX);
        assert!(recorder.repeat(&on, &ones(), double).is_none());
        drop(looking);
        assert!(recorder.repeat(&on, &ones(), double).is_some());
        recorder.plans += 1;
        assert!(recorder.repeat(&on, &ones(), double).is_none());
        assert!(recorder.repeat(&on, &ones(), double).is_some());
        assert_eq!(started.get(), 4);

        // Another shape is another kind, and kinds that were not asked for lately are forgotten.
        for width in 2..2 + Recorder::MOST {
            assert!(recorder.repeat(&on, &[input(&vec![0.0; 2 + width])], double).is_none());
        }
        assert!(recorder.repeat(&on, &[input(&[9.0, 1.0, 2.0])], double).is_none());
        assert_eq!(started.get(), 4);
    }

    #[test]
    fn a_pass_that_cannot_be_recorded_is_told_anew_and_leaves_the_stream_usable() {
        let Some(on) = surface(DType::F32) else {
            println!(
                "SKIPPED a_pass_that_cannot_be_recorded_is_told_anew_and_leaves_the_stream_usable: wgpu finds no adapter on this machine"
            );
            return;
        };
        let input = || Input::all(&on.upload_floats(&[1.0, 2.0], &[2]));
        // What comes from outside cannot be recorded.
        let uploads = |inputs: &[CubeTensor]| vec![on.add(&inputs[0], &on.upload_floats(&[1.0, 1.0], &[2]), None)];
        let mut recorder = Recorder::default();
        for _ in 0..2 + Recorder::ATTEMPTS {
            assert!(recorder.repeat(&on, &[input()], uploads).is_none());
        }
        let panics = |_: &[CubeTensor]| -> Vec<CubeTensor> { panic!("in the middle of a recording") };
        let mut recorder = Recorder::default();
        assert!(recorder.repeat(&on, &[input()], panics).is_none());
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| recorder.repeat(&on, &[input()], panics))).is_err());

        let double = |inputs: &[CubeTensor]| vec![on.add(&inputs[0], &inputs[0], None)];
        let mut recorder = Recorder::default();
        assert!(recorder.repeat(&on, &[input()], double).is_none());
        assert!(recorder.repeat(&on, &[input()], double).is_some());
    }
}
