//! Generates C bindings of a world of the WIT package, and turns core modules into components: the two steps that a
//! plugin in C, Zig or any other language with a C interface needs besides its own compiler.
//!
//! ```text
//! flowgate-bindgen c --wit wit --world stage --out DIRECTORY     # stage.h, stage.c, stage_component_type.o
//! flowgate-bindgen component plugin.core.wasm -o plugin.wasm
//! ```

mod bindings;
mod component;
mod error;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use error::BindgenError;

#[derive(Parser)]
#[command(name = "flowgate-bindgen", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a C header and its source, and an object file that names the world; link all of them into the plugin
    C {
        /// Directory of the WIT package
        #[arg(long, default_value = "wit")]
        wit: PathBuf,
        /// World that the plugin implements
        #[arg(long, default_value = "stage")]
        world: String,
        /// Directory for the files; created if it is missing
        #[arg(long)]
        out: PathBuf,
    },
    /// Turn a core module that carries a component's metadata into a component
    Component {
        /// The core module
        module: PathBuf,
        /// File for the component
        #[arg(short, long)]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flowgate-bindgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<(), BindgenError> {
    match command {
        Command::C { wit, world, out } => bindings::write(wit, world, out),
        Command::Component { module, out } => component::make(module, out),
    }
}
