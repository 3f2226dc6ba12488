//! What the hostile plugin of a tenant costs the service: less than 192 MiB besides the memory of the plugin, and one
//! and a half times the time of its calls, whatever it tries, with batches of 1, 1,024 and 65,536 rows.

use std::{collections::BTreeMap, path::Path, time::Duration};

use flowgate_test_support::{
    hostile::{self, Attack, HostileFile, attacks},
    plugins,
};

use super::{compiling::below, *};

/// Memory limits of the host itself, and of a plugin, in MiB.
const HOST: u64 = 192;
const PLUGIN: u64 = 64;
/// Time limit of a call.
const CALL: Duration = Duration::from_secs(1);

/// Resources that a service has used, together with the processes that it has started: the sum of their peaks of memory
/// in MiB, and CPU time.
#[derive(Clone, Copy, Debug)]
struct Usage {
    memory: u64,
    time: Duration,
}

/// What is known of the processes of a service.
#[derive(Default)]
struct Meter(BTreeMap<i32, (u64, Duration)>);

impl Meter {
    /// Looks at the service and at all processes below it. The time of those that have ended is that of the spawner's
    /// children, and of none of them by itself.
    fn look(&mut self, process: i32) {
        for process in std::iter::once(process).chain(below(process).into_keys()) {
            let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
            let (status, stat) = (read("status"), read("stat"));
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
            // utime, stime, cutime and cstime, in hundredths of a second, are the 12th to 15th word after the name in
            // parentheses.
            let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
            let ticks: u64 = words.filter_map(|word| word.parse::<u64>().ok()).sum();
            let known = self.0.entry(process).or_default();
            *known = (known.0.max(kibibytes.unwrap_or(0)), known.1.max(Duration::from_millis(10 * ticks)));
        }
    }

    fn usage(&self, process: i32) -> Usage {
        let alive = below(process);
        let counts = |number: i32| number == process || alive.contains_key(&number);
        Usage {
            memory: self.0.values().map(|(memory, _)| memory).sum::<u64>() / 1024,
            time: self.0.iter().filter(|(number, _)| counts(**number)).map(|(_, (_, time))| *time).sum(),
        }
    }
}

/// Writes a policy with a tenant of all flows and this plugin, whose first failure ends it.
fn write(namespace: &Namespace, plugin: &Path, options: &[(String, String)], grant: &str, batch: u32) {
    let options: Vec<String> = options.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
    let grant = match grant {
        "" => String::new(),
        // Values that the kernel gets, for one field.
        "update" => "\"update.timeout\"".into(),
        grant => format!("\"{grant}\""),
    };
    let text = format!(
        "[[tenant]]\nname = \"blue\"\nlimits = {{ queue = \"32MiB\", time-per-second = \"1s\" }}\n\
         format = {{ kind = \"text\", batch = {batch} }}\n\
         [[tenant.scope]]\nzones = 0\n[[tenant.plugin]]\nname = \"hostile\"\nfile = \"{}\"\nsha256 = \"{}\"\n\
         grants = [{grant}]\non-error = \"stop\"\noptions = {{ {} }}\n",
        plugin.display(),
        plugins::digest(plugin),
        options.join(", ")
    );
    let cache = namespace.directory().join("cache");
    let service = format!("reload-on-change = false\ncache = \"{}\"\n", cache.display());
    fs::write(namespace.directory().join("policy.toml"), policy_text(namespace, &service, &text)).unwrap();
}

/// Runs the service until the tenant has ended, or its plugin has seen this many flows. Returns what it has used, and
/// whether the tenant has ended.
fn cost(namespace: &Namespace, flows: u64, what: &str) -> (Usage, bool) {
    let serving = Serving::launch(namespace, &flowgate(), &[]);
    serving.until("it runs", || serving.errors().contains("generation 1 runs"));
    let process = serving.background.process().as_raw();
    let (mut ended, mut meter) = (false, Meter::default());
    serving.until(what, || {
        meter.look(process);
        let answer = serving.ask(&["status", "blue"]).text();
        ended = answer.contains("tenant blue: ended");
        let rows = answer
            .lines()
            .find_map(|line| line.trim().strip_prefix("plugin ")?.split_once(" rows")?.0.rsplit_once(' '));
        ended || rows.is_some_and(|(_, rows)| rows.parse::<u64>().is_ok_and(|rows| rows >= flows))
    });
    meter.look(process);
    let usage = meter.usage(process);
    serving.end();
    (usage, ended)
}

/// Runs each of these attacks with this number of rows in a batch.
fn bounded(namespace: &Namespace, batch: u32, flows: u64, attacks: &[Attack]) {
    let plugin = plugins::built("hostile");
    write(namespace, &plugin, &[], "", batch);
    // Its code is in the cache afterwards.
    cost(namespace, flows, "all flows are seen");
    let (usual, _) = cost(namespace, flows, "all flows are seen");
    for attack in attacks {
        write(namespace, &plugin, &attack.options, attack.grant, batch);
        let (used, ended) = cost(namespace, flows, &attack.text());
        let calls = if ended { 1 } else { u32::try_from(flows).unwrap().div_ceil(batch) };
        let most = usual.time * 2 + calls * CALL * 3 / 2;
        assert!(used.memory < HOST + PLUGIN, "{} with {batch} rows: {used:?}, usually {usual:?}", attack.text());
        assert!(used.time < most, "{} with {batch} rows: {used:?}, usually {usual:?}", attack.text());
    }
}

#[test]
fn a_hostile_plugin_of_a_tenant_is_as_bounded_as_one_of_a_command() {
    Namespace::run(|namespace| {
        let flows: Vec<String> = (0..40).map(|host| format!("-I -t 600 -p 50 -s 10.0.0.{host} -d 10.1.0.1")).collect();
        entries::load(namespace, &flows);
        bounded(namespace, 1, 40, &attacks());
    });
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(70_000));
        let multiplying: Vec<Attack> = attacks().into_iter().filter(|attack| attack.multiplies).collect();
        bounded(namespace, 1024, 66_000, &multiplying);
        bounded(namespace, 65_536, 66_000, &multiplying);
    });
}

/// Files that no toolchain produces: they are refused, and the service is as large as without them.
#[test]
fn a_hostile_file_of_a_tenant_is_refused_at_no_cost() {
    Namespace::run(|namespace| {
        let sound = fs::read(plugins::built_for("outside", "wasm32-wasip2")).unwrap();
        let path = namespace.directory().join("hostile.wasm");
        for HostileFile { name, bytes, words } in hostile::files(&sound) {
            fs::write(&path, bytes).unwrap();
            write(namespace, &path, &[], "", 1024);
            // The other tenant starts.
            let policy = namespace.directory().join("policy.toml");
            let (plugin, digest) = attacker();
            let other = format!(
                "[[tenant]]\nname = \"red\"\n[[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\nfile = \"{}\"\nsha256 = \"{digest}\"\n",
                plugin.display()
            );
            fs::write(&policy, fs::read_to_string(&policy).unwrap() + &other).unwrap();
            let (used, ended) = cost(namespace, u64::MAX, name);
            assert!(ended && used.memory < HOST && used.time < CALL * 3 / 2, "{name}: {used:?}");
            let outcome = flowgate().run(&["policy", "check", &policy.display().to_string()]);
            assert!(outcome.status == 1 && outcome.errors().contains(words), "{name}: {}", outcome.errors());
        }
    });
}
