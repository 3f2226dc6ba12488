//! The worker: it confines itself, loads the compiled code of its plugins, confines itself further, and runs.

mod actions;
mod events;
mod output;
mod owner;
mod table;

use std::{
    any::Any,
    cell::RefCell,
    collections::HashMap,
    fs::File,
    io,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flowgate_base::{TokenBucket, Warnings, text::of_panic};
use flowgate_isolation::Role;
use flowgate_model::{EventGroups, Flows};
use flowgate_pipeline::{
    LoadedSpec, Tally,
    counters::Counters,
    load::{SpecPart, SpecProblems},
    loader::{PluginLoader, ProblemPlace, Purpose, RemoteHost},
};
use flowgate_privileges::sandbox;
use flowgate_runtime::{Execution, LoadError, PluginEngine};

use crate::{
    Link,
    protocol::{Part, Report},
    setup::Setup,
};
use actions::RemoteActions;
use events::RemoteEvents;
use output::RemoteOutput;
use owner::Owner;
use table::RemoteTable;

/// Exit status of a process without a setup: it was started by hand, or by another build of the program.
const NO_SETUP: u8 = 2;
/// Exit status of a process whose pipeline has failed.
const FAILED: u8 = 3;

/// Does the job of a setup with its plugins, whose code has been loaded, and returns the answer.
pub type DoJob = fn(&PluginLoader, &Setup, &[u8]) -> Vec<u8>;

/// Runs the plugins of a tenant in this process, or does the job of its setup, and returns the exit status.
#[must_use]
pub fn serve(do_job: DoJob) -> u8 {
    let Ok((calls, others)) = Role::Worker.descriptors(2) else { return NO_SETUP };
    let Ok([events, file]) = <[_; 2]>::try_from(others) else { return NO_SETUP };
    let Ok(events) = flowgate_isolation::Channel::from_descriptor(events) else { return NO_SETUP };
    let owner = Owner::new(Link::new(calls));
    // From here on this process has nothing but its descriptors, and reads what the tenant's compiler has written.
    let landlock = match sandbox::confine_loading() {
        Ok(landlock) => landlock,
        Err(error) => {
            owner.report(&Report::Failed(&format!("the worker is not confined: {error}")));
            return FAILED;
        }
    };
    let mut file = File::from(file);
    let setup = match Setup::read(&mut file) {
        Ok(setup) => setup,
        Err(error) => {
            owner.report(&Report::Failed(&format!("the worker cannot read its setup: {error}")));
            return NO_SETUP;
        }
    };
    let run = AssertUnwindSafe(|| run(&setup, file, &owner, Link::new(events), landlock, do_job));
    let reason = match panic::catch_unwind(run) {
        Ok(Ok(())) => return 0,
        Ok(Err(reason)) => reason,
        Err(payload) => panicked(payload.as_ref()),
    };
    owner.flush();
    owner.report(&Report::Failed(&reason));
    FAILED
}

/// Runs the pipeline to its end.
fn run(
    setup: &Setup,
    mut file: File,
    owner: &Arc<Owner>,
    events: Link,
    landlock: Option<u32>,
    do_job: DoJob,
) -> Result<(), String> {
    owner.name_plugins(setup.plugins.iter().map(|plugin| plugin.name.clone()).collect());
    let engine = PluginEngine::of_code(Execution::elsewhere(setup.interpreted, setup.checked));
    let mut code = HashMap::new();
    for (index, plugin) in setup.plugins.iter().enumerate() {
        let (path, digest) = plugin.file();
        let load = || -> Result<_, LoadError> {
            let failed = |source: io::Error| LoadError::Read { path: PathBuf::from(path), source };
            engine.load_code(path, &plugin.read_code(&mut file).map_err(failed)?)
        };
        match { load }() {
            Ok(loaded) => drop(code.insert(digest.to_string(), loaded)),
            Err(error) => {
                let part = Part::Plugin(u16::try_from(index).unwrap_or(u16::MAX));
                owner.report(&Report::Problem { part, place: ProblemPlace::File, what: &error.to_string() });
                return Err("the plugins cannot be loaded".into());
            }
        }
    }
    drop(file);
    // No code of the tenant has run until now.
    let cannot = |error: &dyn std::fmt::Display| format!("the worker is not confined: {error}");
    let clock = || {
        // The thread ends the process rather than run with more than it needs.
        if sandbox::confine_thread().is_err() {
            std::process::abort();
        }
    };
    engine.start_clock_after(clock).map_err(|error| error.to_string())?;
    let no_executable_memory = sandbox::confine_running().map_err(|error| cannot(&error))?;
    owner.report(&Report::Confined { landlock, no_executable_memory });

    let states = setup.plugins.iter().map(|plugin| (plugin.name.clone(), plugin.state.clone())).collect();
    let host = RemoteHost { code, states: RefCell::new(states), receiver: owner.clone(), opened: RefCell::default() };
    let loader = PluginLoader::remote(engine, setup.labels(), setup.offsets(), host);
    if let Some(job) = &setup.job {
        let answer = do_job(&loader, setup, job);
        owner.write(&answer);
        owner.flush();
        owner.report(&Report::Finished);
        return Ok(());
    }
    let loaded = setup.spec().load(&loader, Purpose::Run).map_err(|problems| {
        report_problems(owner, problems);
        "the plugins have not been started".to_string()
    })?;
    if setup.check {
        report_ungranted(owner, &loaded);
    }
    let budget = Arc::new(Mutex::new(TokenBucket::per_second(setup.time)));
    let loaded = loaded.map_stages(|stage| stage.within(budget.clone()));
    let stats = loaded.user_stages().map(|stage| stage.stats().clone()).collect();
    let mut output = RemoteOutput(owner.clone());
    let warnings = {
        let owner = owner.clone();
        Warnings::new(move |text| owner.report(&Report::Warning(text)))
    };
    let (table, names) = (owner.clone(), setup.plugins.iter().map(|plugin| plugin.name.clone()).collect());
    let counters = Counters::default();
    let mut pipeline = loaded
        .pipeline::<Flows>(&loader, &mut output)
        .map_err(|error| error.to_string())?
        .with_warnings(warnings)
        .with_counters(counters.clone())
        // A gap is already an event in the stream.
        .without_gap_warnings()
        .with_delegate(Box::new(RemoteActions::new(owner.clone(), names, setup.actions)))
        // Formatting counts against the budget too: data that plugins add to the rows makes it slower.
        .with_budget(budget)
        .with_table(EventGroups::ALL, move || RemoteTable(table.clone()));
    owner.report(&Report::Ready);
    if setup.check {
        return Ok(());
    }
    let change = |plugin: &str, key: &[u8], value: Option<Vec<u8>>| {
        let opened = loader.remote_host().map(|host| host.opened.borrow());
        if let Some(state) = opened.as_ref().and_then(|opened| opened.get(plugin)) {
            state.lock().unwrap_or_else(PoisonError::into_inner).apply(key, value);
        }
    };
    if !owner.may_begin(change) {
        return Ok(());
    }
    let mut source = RemoteEvents::new(events, owner.clone(), Duration::from_nanos(setup.interval), stats, counters);
    let ended = pipeline.run_on(&mut source, &mut Tally::default());
    drop(pipeline);
    source.finish();
    ended.map_err(|error| error.to_string())?;
    owner.report(&Report::Finished);
    Ok(())
}

/// Reports all problems of a pipeline.
fn report_problems(owner: &Owner, problems: SpecProblems) {
    for problem in problems.into_all() {
        let part = match problem.part {
            SpecPart::Stage(index) => Part::Plugin(u16::try_from(index).unwrap_or(u16::MAX)),
            SpecPart::Selection | SpecPart::Aggregation | SpecPart::Format => Part::Pipeline,
        };
        let what = problem.error.to_string();
        owner.report(&Report::Problem { part, place: problem.error.place(), what: &what });
    }
}

/// Reports the grants that plugins would use and do not have.
fn report_ungranted(owner: &Owner, loaded: &LoadedSpec) {
    for (index, plugin) in (0u16..).zip(&loaded.stage_plugins) {
        for grant in &plugin.ungranted {
            owner.report(&Report::Output(&[&index.to_ne_bytes(), grant.as_bytes()].concat()));
        }
    }
}

/// Returns the description of a panic.
fn panicked(payload: &(dyn Any + Send)) -> String {
    let text = of_panic(payload);
    format!("its worker panicked, which is a fault of flowgate; please report it: {text}")
}
