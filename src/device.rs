//! Choosing what to compute on.

use std::fmt;
use std::panic::catch_unwind;
use std::str::FromStr;

use burn::tensor::{Device, DeviceType, FloatDType};
use thiserror::Error;

/// Cost of a guided step, in billions of operations, up to which [`DeviceChoice::Auto`] stays on the processor.
///
/// A step of 7.7 GFLOP takes 11 ms on two cores and took at most 6 on an H100 through wgpu (`benches/README.md`), but a card first gets
/// its kernels compiled, and most cards are no H100. So a card is left alone until the arithmetic outweighs that.
pub const PROCESSOR_GFLOP: f64 = 12.0;

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A hardware GPU where there is one, else the CPU; for pictures of a small model always the CPU ([`DeviceChoice::for_step`]).
    #[default]
    Auto,
    Cpu,
    /// The first adapter that wgpu finds, software ones included.
    Gpu,
    /// One of the adapters that wgpu finds, by its place in [`list`].
    Adapter(usize),
    /// NVIDIA's own interface; only in builds with the `cuda` feature.
    Cuda,
    /// As [`DeviceChoice::Gpu`], multiplying in 16-bit floats.
    GpuHalf,
    /// As [`DeviceChoice::Adapter`], multiplying in 16-bit floats.
    AdapterHalf(usize),
    /// As [`DeviceChoice::Cuda`], multiplying in 16-bit floats.
    CudaHalf,
}

/// A device and the name to show for it.
#[derive(Debug, Clone)]
pub struct NamedDevice {
    pub device: Device,
    pub name: String,
    /// The type that a model is to multiply in, where it is narrower than its weights.
    pub compute: Option<FloatDType>,
}

impl NamedDevice {
    /// The same device multiplying in 16-bit floats.
    fn in_half_precision(self) -> Result<Self, DeviceError> {
        if !self.device.supports_dtype(FloatDType::F16) {
            return Err(DeviceError::NoHalf(self.name));
        }
        Ok(Self { name: half_name(&self.name), compute: Some(FloatDType::F16), ..self })
    }

    /// Whether this is the CPU and not a graphics card, be it a pretended one.
    pub fn is_cpu(&self) -> bool {
        self.device == Device::flex()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    #[error("no GPU was found that wgpu can use. Install your graphics driver (on Debian, mesa-vulkan-drivers), or use --device cpu")]
    NoGpu,
    #[error("no CUDA device is at hand: this needs an NVIDIA card, its driver, and a build with --features cuda. Use --device gpu or cpu")]
    NoCuda,
    #[error("{0} cannot compute in 16-bit floats. Choose it without (--device gpu)")]
    NoHalf(String),
    #[error("this command computes in 32-bit floats: use --device gpu or cuda")]
    HalfNotHere,
    #[error("{0:?} is not a device; use auto, cpu, gpu, gpu-f16, cuda or cuda-f16")]
    Unknown(String),
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            "cuda" => Ok(Self::Cuda),
            "gpu-f16" => Ok(Self::GpuHalf),
            "cuda-f16" => Ok(Self::CudaHalf),
            other => Err(DeviceError::Unknown(other.into())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    /// As [`DeviceChoice::from_str`] reads it, where it does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::GpuHalf => f.write_str("gpu-f16"),
            Self::Cuda => f.write_str("cuda"),
            Self::CudaHalf => f.write_str("cuda-f16"),
            Self::Adapter(index) => write!(f, "adapter {index}"),
            Self::AdapterHalf(index) => write!(f, "adapter {index}, f16"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device.
    pub fn open(self) -> Result<NamedDevice, DeviceError> {
        match self {
            Self::Cpu => Ok(cpu()),
            Self::Gpu => first_wgpu(false).ok_or(DeviceError::NoGpu),
            Self::Adapter(index) => adapters().into_iter().nth(index).map(|(device, _)| device).ok_or(DeviceError::NoGpu),
            Self::Cuda => cuda().ok_or(DeviceError::NoCuda),
            Self::GpuHalf => Self::Gpu.open()?.in_half_precision(),
            Self::AdapterHalf(index) => Self::Adapter(index).open()?.in_half_precision(),
            Self::CudaHalf => Self::Cuda.open()?.in_half_precision(),
            // A software rasteriser is a CPU with extra steps: the CPU backend is many times faster.
            Self::Auto => Ok(first_wgpu(true).unwrap_or_else(cpu)),
        }
    }

    /// What to decode pictures on, one or two at a time, with a model whose guided step costs so many billions of operations.
    pub fn for_step(self, gflop: f64) -> Self {
        if self == Self::Auto && gflop <= PROCESSOR_GFLOP { Self::Cpu } else { self }
    }

    /// Opens the device for what would lose by less than 32 bits: training and measuring.
    pub fn open_for_32_bit(self) -> Result<NamedDevice, DeviceError> {
        match self {
            Self::GpuHalf | Self::AdapterHalf(_) | Self::CudaHalf => Err(DeviceError::HalfNotHere),
            choice => choice.open(),
        }
    }
}

fn half_name(name: &str) -> String {
    format!("{name}, 16-bit")
}

fn cpu() -> NamedDevice {
    // As many as compute, which may be fewer than there are cores.
    NamedDevice { device: Device::flex(), name: format!("CPU, {}", threads(rayon::current_num_threads())), compute: None }
}

/// A number of threads in words.
pub fn threads(count: usize) -> String {
    format!("{count} {}", if count == 1 { "thread" } else { "threads" })
}

/// Everything that can be computed on, with the names that the system gives: the processor, then every adapter that wgpu finds, cards
/// in 16-bit floats as well (whether they have them is only known once they are opened).
pub fn list() -> Vec<(DeviceChoice, String)> {
    let mut found = vec![(DeviceChoice::Cpu, cpu().name)];
    for (i, (device, is_card)) in adapters().into_iter().enumerate() {
        found.extend(is_card.then(|| (DeviceChoice::AdapterHalf(i), half_name(&device.name))));
        found.push((DeviceChoice::Adapter(i), device.name));
    }
    if let Some(device) = cuda() {
        found.push((DeviceChoice::CudaHalf, half_name(&device.name)));
        found.push((DeviceChoice::Cuda, device.name));
    }
    found
}

/// Every wgpu adapter, and whether it is a card and not a software rasteriser.
fn adapters() -> Vec<(NamedDevice, bool)> {
    // Without any driver the adapter search panics inside the GPU library.
    quietly(|| {
        let devices = Device::enumerate(DeviceType::Wgpu).into_vec();
        let named = devices.into_iter().filter_map(|device| {
            let identity = device.identity()?;
            Some((NamedDevice { device, name: identity.name, compute: None }, identity.physical.is_some()))
        });
        named.collect()
    })
    .unwrap_or_default()
}

/// The first wgpu adapter; with `hardware`, the first that is a card and not a software rasteriser.
fn first_wgpu(hardware: bool) -> Option<NamedDevice> {
    adapters().into_iter().find(|(_, is_card)| !hardware || *is_card).map(|(device, _)| device)
}

#[cfg(feature = "cuda")]
fn cuda() -> Option<NamedDevice> {
    quietly(|| {
        let device = Device::enumerate(DeviceType::Cuda).into_vec().into_iter().next()?;
        let name = device.identity().map_or_else(|| "CUDA".to_owned(), |identity| format!("{} (CUDA)", identity.name));
        Some(NamedDevice { device, name, compute: None })
    })
    .flatten()
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Option<NamedDevice> {
    None
}

fn quietly<R>(f: impl FnOnce() -> R + std::panic::UnwindSafe) -> Option<R> {
    catch_unwind(f).inspect_err(|_| log::info!("the search for a GPU failed")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_typed_is_printed_as_it_is_read() {
        for text in ["auto", "cpu", "gpu", "gpu-f16", "cuda", "cuda-f16"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert!("tpu".parse::<DeviceChoice>().unwrap_err().to_string().contains("gpu-f16"));
    }

    #[test]
    fn small_models_stay_on_the_processor_unless_told_otherwise() {
        assert_eq!(DeviceChoice::Auto.for_step(2.35), DeviceChoice::Cpu);
        assert_eq!(DeviceChoice::Auto.for_step(70.0), DeviceChoice::Auto);
        assert_eq!(DeviceChoice::Gpu.for_step(2.35), DeviceChoice::Gpu);
    }

    #[test]
    fn sixteen_bits_are_an_offer_for_pictures_alone() {
        assert_eq!(DeviceChoice::GpuHalf.open_for_32_bit().unwrap_err(), DeviceError::HalfNotHere);
        assert!(DeviceChoice::Cpu.open_for_32_bit().is_ok());
        match (DeviceChoice::Gpu.open(), DeviceChoice::GpuHalf.open()) {
            (Err(error), Err(half)) => assert_eq!(error, half),
            (Ok(device), Ok(half)) => {
                assert_eq!((device.device, device.compute), (half.device, None));
                assert_eq!((half.name, half.compute), (half_name(&device.name), Some(FloatDType::F16)));
            }
            (Ok(device), Err(half)) => assert_eq!(half, DeviceError::NoHalf(device.name)),
            (Err(error), Ok(_)) => panic!("16 bits where there is no device at all: {error}"),
        }
    }
}
