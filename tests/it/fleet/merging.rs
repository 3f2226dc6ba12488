//! Groups of the flows of all agents, and flows in columns.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use super::{Fleet, objects, pairs, states};

/// Creates flows of UDP in an agent's table: so many from each of these networks, to each of these ports.
fn fill(fleet: &Fleet<'_>, name: &str, networks: std::ops::Range<u32>, ports: &[u16], each: u16) {
    let mut lines = String::new();
    for network in networks {
        for port in ports {
            for source in 0..each {
                let sport = 1000 + source * 7 + port % 100;
                lines += &format!(
                    "-A -t 600 -p udp -s 10.1.{network}.{} -d 10.2.0.1 --sport {sport} --dport {port}\n",
                    source % 200 + 1
                );
            }
        }
    }
    let file = fleet.namespace.directory().join("load");
    fs::write(&file, lines).unwrap();
    let outcome = fleet.inside(name, &format!("-R {}", file.display()));
    assert_eq!(outcome.status, 0, "{}", outcome.errors());
}

#[test]
fn groups_of_all_agents_are_those_of_all_their_flows() {
    Fleet::run(&["alpha", "beta", "gamma"], "", |fleet| {
        fill(fleet, "alpha", 0..3, &[53, 123], 9);
        // Its groups do not fit into one answer.
        fill(fleet, "beta", 1..200, &[53, 443, 853, 8443, 8853], 4);
        fill(fleet, "gamma", 2..4, &[53], 200);
        let outcome = fleet.ask("list -o json -- -p udp -s 10.1.0.0/16");
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let rows = objects(&outcome.text());
        assert_eq!(rows.len(), 54 + 199 * 20 + 400);
        let mut expected: BTreeMap<(String, u64), Vec<u64>> = BTreeMap::new();
        let mut of_agents: BTreeMap<&str, u64> = BTreeMap::new();
        for row in &rows {
            let source = row["original"]["source"].as_str().unwrap();
            let network = format!("{}.0/24", source.rsplit_once('.').unwrap().0);
            let port = |name: &str| row["original"][name].as_u64().unwrap();
            expected.entry((network, port("destination_port"))).or_default().push(port("source_port"));
            *of_agents.entry(row["agent"].as_str().unwrap()).or_default() += 1;
        }

        let groups = "-p udp -s 10.1.0.0/16 --by src/24,dport --count --sum sport+0 --min sport --max sport \
                      --avg sport+0 --sort sport+0";
        let groups = groups.replace("--sort sport+0", "--sort sum(sport+0)");
        let outcome = fleet.ask(&format!("list -o json -- {groups}"));
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let found = objects(&outcome.text());
        let answered = ["alpha", "beta", "gamma"].map(|name| (name, "answered"));
        assert_eq!(pairs(&states(&outcome)), answered);
        assert_eq!(found.len(), expected.len());
        let mut last = u64::MAX;
        for group in &found {
            let key = (group["src/24"].as_str().unwrap().to_owned(), group["dport"].as_u64().unwrap());
            let ports = &expected[&key];
            let sum: u64 = ports.iter().sum();
            assert!(sum <= last, "{group}");
            last = sum;
            let number = |name: &str| group[name].as_u64().unwrap();
            assert_eq!((number("count"), number("sum(sport+0)")), (ports.len() as u64, sum), "{group}");
            let (least, most) = (*ports.iter().min().unwrap(), *ports.iter().max().unwrap());
            assert_eq!((number("min(sport)"), number("max(sport)")), (least, most), "{group}");
            let mean = group["avg(sport+0)"].as_f64().unwrap();
            assert!((mean - sum as f64 / ports.len() as f64).abs() < 1e-5, "{group}");
        }

        // Only the first ones, as a table, of one host as on the host itself.
        let all = fleet.ask(&format!("list -- {groups} --top 3"));
        assert_eq!(all.text().lines().count(), 5, "{}", all.text());
        let sums = format!("{} flows in {} groups, 3 shown", rows.len(), expected.len());
        assert!(all.text().contains(&sums), "{}", all.text());
        assert!(all.errors().contains("4434 flow entries of 3 agents have been grouped."), "{}", all.errors());
        let of_beta = fleet.ask(&format!("list --agent beta -- {groups} --top 3 -o table"));
        assert_eq!(of_beta.text(), fleet.inside("beta", &format!("-L {groups} --top 3 -o table")).text());
        let csv = fleet.ask(&format!("list --agent beta -- {groups} -o csv"));
        assert_eq!(csv.text(), fleet.inside("beta", &format!("-L {groups} -o csv")).text());

        let outcome = fleet.ask("count -o json -- -p udp -s 10.1.0.0/16 --by agent --sort agent");
        let of: BTreeMap<String, u64> = objects(&outcome.text())
            .iter()
            .map(|group| (group["agent"].as_str().unwrap().to_owned(), group["count"].as_u64().unwrap()))
            .collect();
        assert_eq!(of, of_agents.into_iter().map(|(name, count)| (name.to_owned(), count)).collect());

        let wrong = |line: &str, why: &str| {
            let outcome = fleet.ask(line);
            assert!(outcome.status != 0 && outcome.errors().contains(why), "{line}: {}", outcome.errors());
        };
        wrong("list -- --by dport --distinct src", "distinct(src) of all agents is not the sum of theirs");
        wrong("list -- -p udp --by sport,src,dport --max-groups 4000", "more than 4000 groups together");
        wrong(
            "list -- -p udp --by sport,src,dport --max-groups 100",
            "there are more than 100 groups; raise max-groups",
        );
    });
}

#[test]
fn flows_in_columns_have_the_agent_as_the_first_one() {
    Fleet::run(&["alpha", "be"], "", |fleet| {
        fill(fleet, "alpha", 0..1, &[53], 3);
        fill(fleet, "be", 0..2, &[443], 200);
        let outcome = fleet.ask("list -- -o csv -s 10.1.0.0/16");
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let text = outcome.text();
        let (heading, rest) = text.split_once("\r\n").unwrap();
        let (here, of_alpha) = fleet
            .inside("alpha", "-L -o csv -s 10.1.0.0/16")
            .text()
            .split_once("\r\n")
            .map(|(heading, rest)| (heading.to_owned(), rest.to_owned()))
            .unwrap();
        assert_eq!(heading, format!("agent,{here}"));
        let fields = |line: &str| -> Vec<String> {
            // All but the remaining time.
            line.split(',').enumerate().filter(|(at, _)| *at != 4).map(|(_, field)| field.to_owned()).collect()
        };
        let mut there: Vec<Vec<String>> =
            rest.lines().filter_map(|line| line.strip_prefix("alpha,")).map(fields).collect();
        let mut expected: Vec<Vec<String>> = of_alpha.lines().map(fields).collect();
        there.sort();
        expected.sort();
        assert_eq!(there, expected);
        assert_eq!(
            rest.lines().filter(|line| line.starts_with("be,udp,") || line.starts_with("be,ipv4,17,")).count(),
            400
        );

        let outcome = fleet.ask("list -- --columns dport,src -s 10.1.0.0/16");
        let text = outcome.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines.len()), ("AGENT  DPORT  SRC", 404), "{text}");
        // Columns are where they are, whoever's row it is.
        let place = lines[0].find("SRC").unwrap();
        assert!(lines[1..].iter().all(|line| line.find("10.1.") == Some(place)), "{text}");
        let nothing = fleet.ask("list -- -o tsv --columns src -p udp --dport 9");
        assert_eq!((nothing.text().as_str(), nothing.status), ("agent\tsrc\n", 0));
        let both = fleet.ask("list -o json -- -o csv");
        assert!(both.status != 0 && both.errors().contains("json"), "{}", both.errors());
        let objects: Vec<Value> = objects(&fleet.ask("list -o json -- -p udp --dport 53").text());
        assert!(objects.iter().all(|row| row["agent"] == "alpha"), "{objects:?}");
    });
}
