//! Devices, chosen at run time by one setting.

use burn::tensor::Device;

use crate::{Error, Result};

/// Parses a device setting: `cpu`, `cuda[:n]`, `vulkan[:n]`, `wgpu[:n]` or `ndarray`.
///
/// # Errors
///
/// [`Error::Device`] for an unknown name, a bad index, or a backend that was not compiled in (the
/// message names the cargo feature).
pub fn parse(setting: &str) -> Result<Device> {
    let (name, index) = match setting.split_once(':') {
        Some((name, index)) => {
            let index = index.parse::<usize>().map_err(|_| Error::Device {
                setting: setting.into(),
                reason: format!("'{index}' is not a device number; write for example {name}:0"),
            })?;
            (name, index)
        }
        None => (setting, 0),
    };
    match name {
        "cpu" => Ok(Device::flex()),
        "ndarray" => ndarray(setting),
        "cuda" => cuda(setting, index),
        "vulkan" => vulkan(setting, index),
        "wgpu" => wgpu(setting, index),
        _ => Err(Error::Device {
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
fn missing(setting: &str, feature: &str) -> Error {
    Error::Device {
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
fn vulkan(_: &str, index: usize) -> Result<Device> {
    Ok(Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(index)))
}
#[cfg(not(feature = "vulkan"))]
fn vulkan(setting: &str, _: usize) -> Result<Device> {
    Err(missing(setting, "vulkan"))
}

#[cfg(feature = "wgpu")]
fn wgpu(_: &str, index: usize) -> Result<Device> {
    Ok(Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(index)))
}
#[cfg(not(feature = "wgpu"))]
fn wgpu(setting: &str, _: usize) -> Result<Device> {
    Err(missing(setting, "wgpu"))
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
    }
}
