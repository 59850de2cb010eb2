//! Devices, chosen at run time by one setting.

use burn::tensor::Device;
#[cfg(any(feature = "vulkan", feature = "wgpu"))]
use burn::tensor::{DeviceKind, DeviceType};

/// The device setting is unknown, was not compiled in, or names what is not there.
#[derive(Debug, thiserror::Error)]
#[error("device '{setting}': {reason}")]
pub struct DeviceError {
    /// The setting as given.
    pub setting: String,
    /// What is wrong and what to do.
    pub reason: String,
}

type Result<T> = std::result::Result<T, DeviceError>;

/// Parses a device setting: `cpu`, `cuda[:n]`, `vulkan[:n]`, `wgpu[:n]` or `ndarray`.
///
/// `n` counts GPUs from 0; where there are several kinds, `vulkan` counts the discrete ones first.
/// `vulkan:cpu` and `wgpu:cpu` are a driver that computes on the CPU, such as Mesa's llvmpipe: a slow
/// way to run the code for GPUs where there is none. It never takes the place of a missing GPU. Mesa's
/// crashes on shaders of CubeCL 0.11; `tests/llvmpipe/run.sh` of this crate has the way around.
///
/// # Errors
///
/// [`DeviceError`] for an unknown name, a bad index, an adapter that is not there, or a backend that
/// was not compiled in (the message names the cargo feature).
pub fn parse(setting: &str) -> Result<Device> {
    let (name, which) = setting.split_once(':').unwrap_or((setting, "0"));
    let index = || {
        which.parse::<usize>().map_err(|_| DeviceError {
            setting: setting.into(),
            reason: format!("'{which}' is not a device number; write for example {name}:0"),
        })
    };
    // None: the driver that computes on the CPU.
    let gpu = || if which == "cpu" { Ok(None) } else { index().map(Some) };
    match name {
        "cpu" => index().map(|_| Device::flex()),
        "ndarray" => index().and_then(|_| ndarray(setting)),
        "cuda" => cuda(setting, index()?),
        "vulkan" => vulkan(setting, gpu()?),
        "wgpu" => wgpu(setting, gpu()?),
        _ => Err(DeviceError {
            setting: setting.into(),
            reason: "unknown; use cpu, cuda[:n], vulkan[:n], wgpu[:n] or ndarray".into(),
        }),
    }
}

/// Keeps freed tensors in the process: with glibc's defaults every tensor of some size is mapped
/// and cleared by the kernel anew, a fifth of the time of a training step on CPU.
///
/// A program calls it first thing in `main`, before it starts a thread. It does nothing where the C
/// library is not glibc.
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt sets numbers under the allocator's own lock. Rust's start-up has allocated
    // by now, so that the allocator is initialised; a thread that allocates at the same time can
    // only see the old setting.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

/// Gives freed memory back to the system, which [`tune_allocator`] keeps in the process: after work that
/// needed much of it for a moment, such as building a large tokenizer, and before the weights are loaded.
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes the allocator's own locks and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes the calling thread one of those that share the operations on CPU. From a thread outside of
/// them every operation costs a sleep and a wake-up, tens of microseconds.
///
/// For a program that trains on its main thread, before anything else; a later call does nothing.
/// Not for a thread that will wait for others, which would then have one helper less: there,
/// [`among_workers`].
pub fn join_workers() {
    // It fails where there are workers already.
    let _ = rayon::ThreadPoolBuilder::new().use_current_thread().build_global();
}

/// Runs `work` on one of the threads that share the operations on CPU, for the same reason.
pub fn among_workers<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

#[allow(dead_code, reason = "unused when every backend is compiled in")]
fn missing(setting: &str, feature: &str) -> DeviceError {
    DeviceError {
        setting: setting.into(),
        reason: format!(
            "this build has no {feature} backend; build with `--features {feature}` \
             (cuda: `cargo xtask-cuda`, vulkan: `cargo xtask-vulkan`) or use cpu"
        ),
    }
}

#[cfg(feature = "ndarray")]
fn ndarray(_: &str) -> Result<Device> {
    Ok(Device::ndarray())
}
#[cfg(not(feature = "ndarray"))]
fn ndarray(setting: &str) -> Result<Device> {
    Err(missing(setting, "ndarray"))
}

#[cfg(feature = "cuda")]
fn cuda(_: &str, index: usize) -> Result<Device> {
    Ok(Device::cuda(index))
}
#[cfg(not(feature = "cuda"))]
fn cuda(setting: &str, _: usize) -> Result<Device> {
    Err(missing(setting, "cuda"))
}

#[cfg(feature = "vulkan")]
fn vulkan(setting: &str, gpu: Option<usize>) -> Result<Device> {
    adapter(setting, gpu, DeviceType::Vulkan, Device::vulkan(DeviceKind::Cpu))
}
#[cfg(not(feature = "vulkan"))]
fn vulkan(setting: &str, _: Option<usize>) -> Result<Device> {
    Err(missing(setting, "vulkan"))
}

#[cfg(feature = "wgpu")]
fn wgpu(setting: &str, gpu: Option<usize>) -> Result<Device> {
    adapter(setting, gpu, DeviceType::Wgpu, Device::wgpu(DeviceKind::Cpu))
}
#[cfg(not(feature = "wgpu"))]
fn wgpu(setting: &str, _: Option<usize>) -> Result<Device> {
    Err(missing(setting, "wgpu"))
}

/// An adapter among those that are there. Burn takes any, and panics at the first tensor on one that
/// is not.
#[cfg(any(feature = "vulkan", feature = "wgpu"))]
fn adapter(setting: &str, gpu: Option<usize>, api: DeviceType, cpu: Device) -> Result<Device> {
    let (cpus, gpus): (Vec<_>, Vec<_>) =
        Device::enumerate(api).into_iter().partition(|found| *found == cpu);
    let (found, wanted) = match gpu {
        None => (cpus.first(), "driver that computes on the CPU; Mesa has one".into()),
        Some(index) => (gpus.get(index), format!("GPU {index}")),
    };
    found.cloned().ok_or_else(|| DeviceError {
        setting: setting.into(),
        reason: format!("no {wanted} (GPUs found: {}; see `vulkaninfo --summary`)", gpus.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_devices_say_what_to_do() {
        assert!(parse("cpu").is_ok());
        for (setting, hint) in [("tpu", "use cpu"), ("cuda:x", "not a device number")] {
            assert!(parse(setting).unwrap_err().to_string().contains(hint));
        }
        #[cfg(not(feature = "cuda"))]
        assert!(parse("cuda").unwrap_err().to_string().contains("--features cuda"));
        #[cfg(not(feature = "vulkan"))]
        assert!(parse("vulkan:cpu").unwrap_err().to_string().contains("--features vulkan"));
        #[cfg(feature = "vulkan")]
        assert!(parse("vulkan:999").unwrap_err().to_string().contains("no GPU 999"));
    }
}
