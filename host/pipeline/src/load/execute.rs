//! Runs a spec from loading to the end of its sinks, for programs that embed pipelines.

use super::SpecProblems;
use crate::{
    RunError, Spec, Tally,
    entries::Entries,
    loader::{LoadPluginError, PluginLoader, Purpose},
    sink::{Several, Shippers, Sink as _, SinkError},
};
use flowgate_base::Warnings;
use flowgate_model::{Expectations, Flows};
use flowgate_netlink::Stop;

/// Why a spec could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Its plugins cannot be used.
    #[error(transparent)]
    Load(#[from] SpecProblems),
    /// The formats of a dry run cannot be started.
    #[error(transparent)]
    Plugin(#[from] LoadPluginError),
    /// A sink cannot be opened, or did not take everything.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The run failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl Spec {
    /// Loads the plugins, opens the sinks, and runs the pipeline until its source ends or `stop` is given. The source
    /// must yield entries: counters ([`Source::Statistics`](crate::spec::Source)) and deletions have no pipeline.
    ///
    /// ```no_run
    /// use flowgate_base::Warnings;
    /// use flowgate_netlink::Stop;
    /// use flowgate_pipeline::{
    ///     FormatSpec, Spec,
    ///     loader::{PluginLoader, PluginSpec},
    ///     sink::SinkSpec,
    /// };
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Events through a plugin, as JSON on standard output, until the stop signal is given.
    /// let spec = Spec::events()
    ///     .stage(PluginSpec::file("heavy.wasm"))
    ///     .format(FormatSpec::stock("json"))
    ///     .sink(SinkSpec::stdout());
    /// let loader = PluginLoader::new(Vec::new(), true, false)?;
    /// let tally = spec.run(&loader, &Stop::new()?, &Warnings::new(|warning| eprintln!("{warning}")))?;
    /// println!("{} events were shown, {} gaps", tally.shown, tally.gaps);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SpecError`]; what was shown until then has been written.
    pub fn run(self, loader: &PluginLoader, stop: &Stop, warnings: &Warnings) -> Result<Tally, SpecError> {
        match self.source.is_about_expectations() {
            true => self.run_entries::<Expectations>(loader, stop, warnings),
            false => self.run_entries::<Flows>(loader, stop, warnings),
        }
    }

    fn run_entries<T: Entries>(
        self,
        loader: &PluginLoader,
        stop: &Stop,
        warnings: &Warnings,
    ) -> Result<Tally, SpecError> {
        let live = self.is_live();
        let loaded = self.load(loader, Purpose::Run)?;
        let sinks = loaded.spec().sinks.iter().map(|sink| sink.open(live, stop, warnings.clone(), Shippers::none()));
        let mut sinks = Several::new(sinks.collect::<Result<_, _>>()?);
        let mut tally = Tally::default();
        let mut pipeline = loaded.pipeline::<T>(loader, &mut sinks)?.with_warnings(warnings.clone());
        let ran = pipeline.run(stop, &mut tally);
        drop(pipeline);
        // The sinks are brought to their end also when the run failed.
        let finished = sinks.finish();
        ran?;
        finished?;
        Ok(tally)
    }
}
