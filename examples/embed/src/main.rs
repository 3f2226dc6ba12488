//! Listens to connection-tracking events, passes them through a plugin, and prints what is left as JSON, until a signal
//! ends it: `embed PLUGIN.wasm`. Needs CAP_NET_ADMIN.

use std::{env, error::Error, thread};

use flowgate_base::Warnings;
use flowgate_netlink::Stop;
use flowgate_pipeline::{
    FormatSpec, Spec,
    loader::{PluginLoader, PluginSpec},
    sink::SinkSpec,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

fn main() -> Result<(), Box<dyn Error>> {
    let plugin = env::args_os().nth(1).ok_or("usage: embed PLUGIN.wasm")?;
    let stop = Stop::new()?;
    let (ending, mut signals) = (stop.clone(), Signals::new([SIGINT, SIGTERM])?);
    thread::spawn(move || signals.forever().next().map(|_| ending.stop()));

    let spec =
        Spec::events().stage(PluginSpec::file(plugin)).format(FormatSpec::stock("json")).sink(SinkSpec::stdout());
    let loader = PluginLoader::new(Vec::new(), true, false)?;
    let tally = spec.run(&loader, &stop, &Warnings::new(|warning| eprintln!("{warning}")))?;
    eprintln!("{} events shown, {} gaps, {} events lost", tally.shown, tally.gaps, tally.lost);
    Ok(())
}
