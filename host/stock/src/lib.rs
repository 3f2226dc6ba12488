//! The stock plugins. The build script compiles them; here they become part of the program's own executable pages, and
//! run in place: nothing is copied, no memory is made executable, and all processes share them.
//!
//! Code at one address can be loaded once, because wasmtime keeps a registry of all code of a process by address. There
//! are therefore engines that only run the images, and each is loaded at most once.
#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    ptr::NonNull,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use wasmtime::{Config, CustomCodeMemory, Engine, component::Component};

/// Settings for compiling and running WebAssembly, for the host and the build script.
pub mod config;

/// Distinguishes builds whose compilers may differ.
pub const BUILD: &str = env!("FLOWGATE_BUILD");

/// Includes a file in the section `.text.stock`, which the linker adds to the program's executable, read-only segment.
/// (A static with `link_section` would be data, which is not executable.)
macro_rules! image {
    ($start:ident, $end:ident, $file:expr, $alignment:expr) => {
        std::arch::global_asm!(
            ".pushsection .text.stock,\"ax\",@progbits",
            concat!(".balign ", $alignment),
            concat!(".globl ", stringify!($start)),
            concat!(".hidden ", stringify!($start)),
            concat!(stringify!($start), ":"),
            concat!(".incbin \"", $file, "\""),
            concat!(".globl ", stringify!($end)),
            concat!(".hidden ", stringify!($end)),
            concat!(stringify!($end), ":"),
            concat!(".balign ", $alignment),
            ".popsection",
            options(raw),
        );
        // SAFETY: the symbols are defined by the assembler above. Only their addresses are used; nothing is read
        // through these declarations.
        unsafe extern "C" {
            static $start: u8;
            static $end: u8;
        }
    };
}

// `ALIGNMENT`, `image!` for each image, and `images()`.
include!(concat!(env!("OUT_DIR"), "/stock.rs"));

/// The compiled code of a stock plugin, as serialised by wasmtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Image {
    name: &'static str,
    start: *const u8,
    end: *const u8,
}

impl Image {
    fn bytes(self) -> Option<NonNull<[u8]>> {
        let length = self.end.addr().checked_sub(self.start.addr())?;
        NonNull::new(std::ptr::slice_from_raw_parts_mut(self.start.cast_mut(), length))
    }

    /// Returns true if this range of memory is within the image.
    fn holds(self, start: *const u8, length: usize) -> bool {
        let end = start.addr().saturating_add(length);
        self.start <= start && end <= self.end.addr().next_multiple_of(ALIGNMENT)
    }
}

/// The engines of the images, if they have been created: of those whose memory has a fixed place, and of those whose
/// memory [`grows`](config::grows).
static ENGINES: [OnceLock<Engine>; 2] = [OnceLock::new(), OnceLock::new()];
/// Loaded components, which are kept until the process ends.
static LOADED: Mutex<BTreeMap<&str, Component>> = Mutex::new(BTreeMap::new());

/// Advances the clock of the images' engines, if there are any. If several threads advance it, a call checks its own
/// time more often, and ends no sooner.
pub fn tick() {
    ENGINES.iter().filter_map(OnceLock::get).for_each(Engine::increment_epoch);
}

/// Returns a stock plugin, or `None` if there is none with this name.
///
/// # Errors
/// The engine cannot be created, or the image was not compiled for it or for this machine.
pub fn load(name: &str) -> wasmtime::Result<Option<Component>> {
    let Some(image) = images().into_iter().find(|image| image.name == name) else { return Ok(None) };
    // Locked until it is loaded, so that it is not loaded twice.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(component) = loaded.get(name) {
        return Ok(Some(component.clone()));
    }
    let grows = config::grows(name);
    let [fixed, growing] = &ENGINES;
    let place = if grows { growing } else { fixed };
    let engine = match place.get() {
        Some(engine) => engine,
        None => {
            let engine = Engine::new(&in_place(grows))?;
            place.get_or_init(|| engine)
        }
    };
    let component = deserialize(engine, image)?;
    loaded.insert(image.name, component.clone());
    Ok(Some(component))
}

/// Creates a component from an image.
fn deserialize(engine: &Engine, image: Image) -> wasmtime::Result<Component> {
    let bytes = image.bytes().ok_or_else(|| wasmtime::format_err!("the image has no bytes"))?;
    // SAFETY: the bytes are wasmtime's own output, written by the build script of this program; neither files nor users
    // can change them. They are in the program's read-only segment, so that they exist as long as the process and are
    // never written to. Each is loaded once (`load`).
    unsafe { Component::deserialize_raw(engine, bytes) }
}

/// Returns the configuration of an engine that runs images. It has no compiler.
fn in_place(grows: bool) -> Config {
    let mut config = config::stock(grows);
    config.enable_compiler(false);
    config.with_custom_code_memory(Some(Arc::new(InPlace)));
    config
}

/// Code that is executable already: publishing it needs no operation.
struct InPlace;

impl CustomCodeMemory for InPlace {
    fn required_alignment(&self) -> usize {
        ALIGNMENT
    }

    fn publish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        let inside = images().into_iter().any(|image| image.holds(start, length));
        wasmtime::ensure!(inside, "code outside of the program was to be made executable");
        Ok(())
    }

    fn unpublish_executable(&self, _start: *const u8, _length: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_executable_and_read_only_in_the_program() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let program = std::env::current_exe().unwrap();
        for image in images() {
            assert_eq!(image.start.addr() % ALIGNMENT, 0, "{}", image.name);
            assert!(image.bytes().unwrap().len() > ALIGNMENT, "{}", image.name);
            let line = maps.lines().find(|line| {
                let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                (number(start)..number(end)).contains(&image.start.addr())
            });
            let line = line.unwrap();
            assert!(line.contains(" r-xp "), "{}: {line}", image.name);
            assert!(line.ends_with(program.to_str().unwrap()), "{}: {line}", image.name);
        }
    }

    #[test]
    fn every_image_runs_where_it_lies_however_often_it_is_loaded() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for image in images() {
                        let component = load(image.name).unwrap().unwrap();
                        assert_eq!(component.image_range().start, image.start, "{}", image.name);
                    }
                });
            }
        });
        assert!(load("teleport").unwrap().is_none());
        assert!(InPlace.publish_executable(std::ptr::dangling(), 4096).is_err());
    }
}
