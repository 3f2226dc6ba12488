//! Listens to connection-tracking events, passes them through a plugin, and prints the remaining ones as JSON, until a
//! signal ends it: `embed PLUGIN.wasm`. Needs CAP_NET_ADMIN.

use std::{env, error::Error, process::ExitCode, thread};

use flowgate_base::Warnings;
use flowgate_netlink::Stop;
use flowgate_pipeline::{
    FormatSpec, Spec,
    loader::{PluginLoader, PluginSpec},
    sink::SinkSpec,
};
use signal_hook::{consts::TERM_SIGNALS, iterator::Signals};

fn run() -> Result<(), Box<dyn Error>> {
    let file = env::args_os().nth(1).ok_or("usage: embed PLUGIN.wasm")?;
    let stop = Stop::new()?;
    let (ending, mut signals) = (stop.clone(), Signals::new(TERM_SIGNALS)?);
    thread::spawn(move || signals.forever().next().map(|_| ending.stop()));

    // The plugin may log, keep state and read the clock. It may not act on flows.
    let plugin = PluginSpec::file(file).grants("log,state,time".parse()?);
    let spec = Spec::events().stage(plugin).format(FormatSpec::stock("json")).sink(SinkSpec::stdout());
    let loader = PluginLoader::new(Vec::new(), true, false)?;
    let tally = spec.run(&loader, &stop, &Warnings::new(|warning| eprintln!("{warning}")))?;
    eprintln!("{} events shown, {} gaps, {} events lost", tally.shown, tally.gaps, tally.lost);
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed: {error}");
            ExitCode::FAILURE
        }
    }
}
