//! A running plugin: calls with a deadline, and errors with a name.

use std::time::Duration;

use wasmtime::{Store, Trap, component::Instance as Running};

use super::{
    bindings::exports::flowgate::conntrack as exports,
    component::{Origin, PluginComponent},
    deadline::Deadline,
    engine::PluginEngine,
    error::{self, Failure, PluginError},
    limits::{Limits, MemoryLimiter},
    linker::HostState,
    services::Services,
};
use flowgate_base::clock::thread_time;
use flowgate_model::bounds;
use flowgate_model::{
    Aggregation, Counts, Description, ExpectationOutcome, Expectations, Flows, Groups, Outcome, Program, Results,
    Selection, Setup,
};

/// An instance of a plugin. It must not be called again after a failed call.
pub struct Instance {
    engine: PluginEngine,
    store: Store<HostState>,
    plugin: exports::plugin::Guest,
    flow_stage: Option<exports::flow_stage::Guest>,
    flow_selection: Option<exports::flow_selection::Guest>,
    flow_query: Option<exports::flow_query::Guest>,
    flow_template: Option<exports::flow_template::Guest>,
    flow_format: Option<exports::flow_format::Guest>,
    flow_aggregate: Option<exports::flow_aggregate::Guest>,
    groups_format: Option<exports::groups_format::Guest>,
    expectation_stage: Option<exports::expectation_stage::Guest>,
    expectation_format: Option<exports::expectation_format::Guest>,
    statistics_format: Option<exports::statistics_format::Guest>,
    flow_tick: Option<exports::flow_tick::Guest>,
    flow_look_back: Option<exports::flow_look_back::Guest>,
    action_results: Option<exports::action_results::Guest>,
    name: String,
    limits: Limits,
    dead: bool,
    /// The rest of the start-up time, or `None` once the plugin is configured.
    starting: Option<Duration>,
}

type CallResult<T> = Result<T, PluginError>;

impl Instance {
    /// Instantiates a plugin without services. The start-up time begins here.
    ///
    /// # Errors
    /// A [`PluginError`] if its start function fails, or if it exceeds its memory limit.
    pub fn new(component: &PluginComponent, limits: Limits) -> CallResult<Self> {
        Self::with_services(component, limits, Services::default())
    }

    /// Instantiates a plugin with host services.
    ///
    /// # Errors
    /// The same as [`Instance::new`].
    pub fn with_services(component: &PluginComponent, limits: Limits, services: Services) -> CallResult<Self> {
        let name = component.name.clone();
        let fail = |failure| PluginError { plugin: name.clone(), failure };
        if component.origin == Origin::File {
            component.engine.start_clock().map_err(|error| fail(Failure::Host(error.to_string())))?;
        }

        let state = HostState { guard: MemoryLimiter::new(limits.memory), services, deadline: Deadline::default() };
        let mut store = Store::new(component.instance.engine(), state);
        store.limiter(|state| &mut state.guard);
        store.set_hostcall_fuel(limits.output);
        Deadline::watch(&mut store);
        let _call = component.engine.begin_call();
        Deadline::begin(&mut store, limits.start_up);
        let before = thread_time();

        let running = component
            .instance
            .instantiate(&mut store)
            .map_err(|error| fail(classify(&error, &mut store, limits, limits.start_up)))?;
        let guests = Exports::load(component, &mut store, &running)
            .map_err(|error| fail(Failure::Host(format!("{error:#}"))))?;
        Ok(Instance {
            engine: component.engine.clone(),
            store,
            plugin: guests.plugin,
            flow_stage: guests.flow_stage,
            flow_selection: guests.flow_selection,
            flow_query: guests.flow_query,
            flow_template: guests.flow_template,
            flow_format: guests.flow_format,
            flow_aggregate: guests.flow_aggregate,
            groups_format: guests.groups_format,
            expectation_stage: guests.expectation_stage,
            expectation_format: guests.expectation_format,
            statistics_format: guests.statistics_format,
            flow_tick: guests.flow_tick,
            flow_look_back: guests.flow_look_back,
            action_results: guests.action_results,
            name,
            limits,
            dead: false,
            starting: Some(limits.start_up.saturating_sub(thread_time().saturating_sub(before))),
        })
    }

    /// Returns the name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its resource limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns the bytes of linear memory in use.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.store.data().guard.used()
    }

    /// Returns an error with this plugin's name.
    #[must_use]
    pub fn error(&self, failure: Failure) -> PluginError {
        PluginError { plugin: self.name.clone(), failure }
    }

    /// Returns the first reading of the thread's clock during the last call, or `None` if the call took less than a
    /// tick.
    #[must_use]
    pub fn counted_since(&self) -> Option<Duration> {
        self.store.data().deadline.since()
    }

    /// Ends the start-up: from here on each call has its own deadline.
    pub fn end_start_up(&mut self) {
        self.starting = None;
    }

    /// Makes a call with its deadline. All calls go through this function.
    fn call<G, T>(
        &mut self,
        guest: impl FnOnce(&Self) -> Option<&G>,
        call: impl FnOnce(&G, &mut Store<HostState>) -> wasmtime::Result<T>,
    ) -> CallResult<T>
    where
        G: Clone,
    {
        if self.dead {
            return Err(self.error(Failure::Host("it has failed before".into())));
        }
        let Some(guest) = guest(self).cloned() else {
            return Err(self.error(Failure::Host("it does not export what was called".into())));
        };
        let _call = self.engine.begin_call();
        Deadline::begin(&mut self.store, self.starting.unwrap_or(self.limits.call));
        let before = self.starting.map(|_| thread_time());
        let result = call(&guest, &mut self.store);
        if let (Some(left), Some(before)) = (&mut self.starting, before) {
            *left = left.saturating_sub(thread_time().saturating_sub(before));
        }
        match result {
            Ok(value) => Ok(value),
            Err(error) => {
                self.dead = true;
                let allowed = if self.starting.is_some() { self.limits.start_up } else { self.limits.call };
                let failure = classify(&error, &mut self.store, self.limits, allowed);
                Err(self.error(failure))
            }
        }
    }

    /// Makes a call of a function that may refuse.
    fn call_refusable<G: Clone>(
        &mut self,
        guest: impl FnOnce(&Self) -> Option<&G>,
        call: impl FnOnce(&G, &mut Store<HostState>) -> wasmtime::Result<Result<(), String>>,
    ) -> CallResult<()> {
        self.call(guest, call)?.map_err(|reason| {
            let reason = flowgate_base::text::clean(&reason);
            self.error(Failure::Refused(reason))
        })
    }

    /// Calls `plugin.describe`.
    ///
    /// # Errors
    /// A [`PluginError`], as for all calls.
    pub fn describe(&mut self) -> CallResult<Description> {
        let description = self.call(|i| Some(&i.plugin), |guest, store| guest.call_describe(store))?;
        bounds::check_description(&description).map_err(|reason| self.error(Failure::BadValue(reason)))?;
        Ok(description)
    }

    /// Calls `plugin.configure`.
    ///
    /// # Errors
    /// A [`PluginError`]; [`Failure::Refused`] with the plugin's message if it refuses its options.
    pub fn configure(&mut self, setup: &Setup) -> CallResult<()> {
        self.call_refusable(|i| Some(&i.plugin), |guest, store| guest.call_configure(store, setup))
    }

    /// Calls `flow-selection.select`.
    ///
    /// # Errors
    /// The same as [`Instance::configure`].
    pub fn select(&mut self, selection: &Selection) -> CallResult<()> {
        self.call_refusable(|i| i.flow_selection.as_ref(), |guest, store| guest.call_select(store, selection))
    }

    /// Calls `flow-query.query`.
    ///
    /// # Errors
    /// The same as [`Instance::configure`].
    pub fn query(&mut self, condition: &Program) -> CallResult<()> {
        self.call_refusable(|i| i.flow_query.as_ref(), |guest, store| guest.call_query(store, condition))
    }

    /// Calls `flow-aggregate.aggregate`.
    ///
    /// # Errors
    /// The same as [`Instance::configure`].
    pub fn aggregate(&mut self, aggregation: &Aggregation) -> CallResult<()> {
        self.call_refusable(|i| i.flow_aggregate.as_ref(), |guest, store| guest.call_aggregate(store, aggregation))
    }

    /// Calls `flow-aggregate.add`.
    ///
    /// # Errors
    /// The same as [`Instance::configure`]: [`Failure::Refused`] if there are more groups than allowed.
    pub fn add_flows(&mut self, batch: &Flows) -> CallResult<()> {
        self.call_refusable(|i| i.flow_aggregate.as_ref(), |guest, store| guest.call_add(store, batch))
    }

    /// Calls `flow-aggregate.take` with the beginning and the end of the window, in nanoseconds since 1970.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn take_groups(&mut self, since: u64, until: u64) -> CallResult<Groups> {
        self.call(|i| i.flow_aggregate.as_ref(), |guest, store| guest.call_take(store, since, until))
    }

    /// Calls `groups-format.render`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn render_groups(&mut self, groups: &Groups) -> CallResult<Vec<u8>> {
        self.call(|i| i.groups_format.as_ref(), |guest, store| guest.call_render(store, groups))
    }

    /// Calls `flow-template.template`.
    ///
    /// # Errors
    /// The same as [`Instance::configure`].
    pub fn template(&mut self, values: &Flows) -> CallResult<()> {
        self.call_refusable(|i| i.flow_template.as_ref(), |guest, store| guest.call_template(store, values))
    }

    /// Calls `flow-stage.process`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn process_flows(&mut self, batch: &Flows) -> CallResult<Outcome> {
        self.call(|i| i.flow_stage.as_ref(), |guest, store| guest.call_process(store, batch))
    }

    /// Calls `flow-stage.finish`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn finish_flows(&mut self) -> CallResult<Outcome> {
        self.call(|i| i.flow_stage.as_ref(), |guest, store| guest.call_finish(store))
    }

    /// Calls `flow-tick.interval`, which returns milliseconds, 0 for none.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn tick_interval(&mut self) -> CallResult<u32> {
        self.call(|i| i.flow_tick.as_ref(), |guest, store| guest.call_interval(store))
    }

    /// Calls `flow-tick.tick` with this time in nanoseconds since 1970.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn tick(&mut self, time: u64) -> CallResult<Outcome> {
        self.call(|i| i.flow_tick.as_ref(), |guest, store| guest.call_tick(store, time))
    }

    /// Calls `flow-look-back.begin`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn begin_look_back(&mut self, reason: u8) -> CallResult<()> {
        self.call(|i| i.flow_look_back.as_ref(), |guest, store| guest.call_begin(store, reason))
    }

    /// Calls `flow-look-back.entries`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn look_back(&mut self, batch: &Flows) -> CallResult<Outcome> {
        self.call(|i| i.flow_look_back.as_ref(), |guest, store| guest.call_entries(store, batch))
    }

    /// Calls `flow-look-back.end`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn end_look_back(&mut self) -> CallResult<Outcome> {
        self.call(|i| i.flow_look_back.as_ref(), |guest, store| guest.call_end(store))
    }

    /// Calls `action-results.learn`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn learn(&mut self, results: &Results) -> CallResult<()> {
        self.call(|i| i.action_results.as_ref(), |guest, store| guest.call_learn(store, results))
    }

    /// Calls `expectation-stage.process`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn process_expectations(&mut self, batch: &Expectations) -> CallResult<ExpectationOutcome> {
        self.call(|i| i.expectation_stage.as_ref(), |guest, store| guest.call_process(store, batch))
    }

    /// Calls `expectation-stage.finish`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn finish_expectations(&mut self) -> CallResult<ExpectationOutcome> {
        self.call(|i| i.expectation_stage.as_ref(), |guest, store| guest.call_finish(store))
    }

    /// Calls `flow-format.begin`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn begin_flow_format(&mut self) -> CallResult<Vec<u8>> {
        self.call(|i| i.flow_format.as_ref(), |guest, store| guest.call_begin(store))
    }

    /// Calls `flow-format.render`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn render_flows(&mut self, batch: &Flows) -> CallResult<Vec<u8>> {
        self.call(|i| i.flow_format.as_ref(), |guest, store| guest.call_render(store, batch))
    }

    /// Calls `flow-format.finish`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn finish_flow_format(&mut self) -> CallResult<Vec<u8>> {
        self.call(|i| i.flow_format.as_ref(), |guest, store| guest.call_finish(store))
    }

    /// Calls `expectation-format.begin`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn begin_expectation_format(&mut self) -> CallResult<Vec<u8>> {
        self.call(|i| i.expectation_format.as_ref(), |guest, store| guest.call_begin(store))
    }

    /// Calls `expectation-format.render`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn render_expectations(&mut self, batch: &Expectations) -> CallResult<Vec<u8>> {
        self.call(|i| i.expectation_format.as_ref(), |guest, store| guest.call_render(store, batch))
    }

    /// Calls `expectation-format.finish`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn finish_expectation_format(&mut self) -> CallResult<Vec<u8>> {
        self.call(|i| i.expectation_format.as_ref(), |guest, store| guest.call_finish(store))
    }

    /// Calls `statistics-format.render`.
    ///
    /// # Errors
    /// A [`PluginError`].
    pub fn render_statistics(&mut self, counts: &Counts) -> CallResult<Vec<u8>> {
        self.call(|i| i.statistics_format.as_ref(), |guest, store| guest.call_render(store, counts))
    }
}

/// The exports of an instance.
struct Exports {
    plugin: exports::plugin::Guest,
    flow_stage: Option<exports::flow_stage::Guest>,
    flow_selection: Option<exports::flow_selection::Guest>,
    flow_query: Option<exports::flow_query::Guest>,
    flow_template: Option<exports::flow_template::Guest>,
    flow_format: Option<exports::flow_format::Guest>,
    flow_aggregate: Option<exports::flow_aggregate::Guest>,
    groups_format: Option<exports::groups_format::Guest>,
    expectation_stage: Option<exports::expectation_stage::Guest>,
    expectation_format: Option<exports::expectation_format::Guest>,
    statistics_format: Option<exports::statistics_format::Guest>,
    flow_tick: Option<exports::flow_tick::Guest>,
    flow_look_back: Option<exports::flow_look_back::Guest>,
    action_results: Option<exports::action_results::Guest>,
}

impl Exports {
    fn load(component: &PluginComponent, store: &mut Store<HostState>, running: &Running) -> wasmtime::Result<Self> {
        let at = &component.indices;
        Ok(Exports {
            plugin: at.plugin.load(&mut *store, running)?,
            flow_stage: at.flow_stage.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            flow_selection: at.flow_selection.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            flow_template: at.flow_template.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            flow_query: at.flow_query.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            flow_format: at.flow_format.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            flow_aggregate: at.flow_aggregate.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            groups_format: at.groups_format.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            expectation_stage: at.expectation_stage.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            expectation_format: at.expectation_format.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            statistics_format: at.statistics_format.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            flow_tick: at.flow_tick.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            flow_look_back: at.flow_look_back.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
            action_results: at.action_results.as_ref().map(|i| i.load(&mut *store, running)).transpose()?,
        })
    }
}

/// Classifies an error of wasmtime.
fn classify(error: &wasmtime::Error, store: &mut Store<HostState>, limits: Limits, allowed: Duration) -> Failure {
    if let Some(wanted) = store.data_mut().guard.refused.take() {
        return Failure::Memory { wanted, limit: limits.memory };
    }
    if std::mem::take(&mut store.data_mut().guard.starved) || error::lacks_memory(error) {
        return error::no_memory_failure();
    }
    let text = error.root_cause().to_string();
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Failure::Deadline(allowed),
        Some(Trap::StackOverflow) => Failure::Stack,
        Some(Trap::UnreachableCodeReached) => Failure::Trap("panicked or reached `unreachable`".into()),
        Some(trap) => Failure::Trap(trap.to_string()),
        None => {
            if let Some(import) = text.strip_prefix("unknown import: `").and_then(|rest| rest.split('`').next()) {
                Failure::Forbidden(import.to_string())
            } else if text.contains("fuel") {
                Failure::Output { limit: limits.output }
            } else {
                Failure::BadValue(format!("something that cannot be read: {text}"))
            }
        }
    }
}
