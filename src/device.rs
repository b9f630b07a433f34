//! Choosing what to compute on.

use std::panic::catch_unwind;
use std::str::FromStr;

use burn::tensor::{Device, DeviceType};
use thiserror::Error;

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A hardware GPU where there is one, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// The first adapter that wgpu finds, software ones included.
    Gpu,
    /// One of the adapters that wgpu finds, by its place in [`list`].
    Adapter(usize),
    /// NVIDIA's own interface; only in builds with the `cuda` feature.
    Cuda,
}

/// A device and the name to show for it.
#[derive(Debug, Clone)]
pub struct NamedDevice {
    pub device: Device,
    pub name: String,
}

impl NamedDevice {
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
    #[error("{0:?} is not a device; use auto, cpu, gpu or cuda")]
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
            other => Err(DeviceError::Unknown(other.into())),
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
            // A software rasteriser is a CPU with extra steps: the CPU backend is many times faster.
            Self::Auto => Ok(first_wgpu(true).unwrap_or_else(cpu)),
        }
    }
}

fn cpu() -> NamedDevice {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    NamedDevice { device: Device::flex(), name: format!("CPU, {cores} {}", if cores == 1 { "thread" } else { "threads" }) }
}

/// Everything that can be computed on, with the names that the system gives: the processor, then every adapter that wgpu finds.
pub fn list() -> Vec<(DeviceChoice, String)> {
    let mut found = vec![(DeviceChoice::Cpu, cpu().name)];
    found.extend(adapters().into_iter().enumerate().map(|(i, (device, _))| (DeviceChoice::Adapter(i), device.name)));
    found.extend(cuda().map(|device| (DeviceChoice::Cuda, device.name)));
    found
}

/// Every wgpu adapter, and whether it is a card and not a software rasteriser.
fn adapters() -> Vec<(NamedDevice, bool)> {
    // Without any driver the adapter search panics inside the GPU library.
    quietly(|| {
        let devices = Device::enumerate(DeviceType::Wgpu).into_vec();
        let named = devices.into_iter().filter_map(|device| {
            let identity = device.identity()?;
            Some((NamedDevice { device, name: identity.name }, identity.physical.is_some()))
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
        Some(NamedDevice { device, name })
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
