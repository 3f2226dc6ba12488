//! Values of options for plugins and listening: the command line is as strict as pipeline files.

use super::refused;
use crate::field::flowgate;

#[test]
fn case_40_values_of_plugins_are_checked() {
    for (words, expected) in [
        (&["-L", "--plugin", "x.wasm,bytes=1,bytes=2"][..], "'bytes' is given twice"),
        (&["-L", "--plugin", "x.wasm,bytes=1,b=2,bytes=1"], "'bytes' is given twice"),
        (&["-L", "--plugin", "x.wasm", "--grant", ""], "names no grant"),
        (&["-L", "--plugin", "x.wasm", "--grant", ","], "a comma without a grant"),
        (&["-L", "--plugin", "x.wasm", "--grant", "delete,"], "a comma without a grant"),
        (&["-L", "--plugin", "x.wasm", "--grant", "update.mark=0"], "the bits that may change"),
        (&["-L", "--plugin", "x.wasm", "--on-error", ""], "not one of skip, drop and stop"),
        (&["-L", "--plugin", ""], "no file in ''"),
        (&["-L", "--plugin", "x.wasm,"], "not of the form name=value"),
        (&["-L", "--plugin", "x.wasm", "--batch", ""], "from 1 to 65536"),
        (&["-E", "-b", "2000000", "--buffer-max", "1000000"], "--buffer-size 2000000 is above --buffer-max 1000000"),
        (&["-E", "--buffer-max", ""], "a size such as \"64MiB\""),
        (&["-E", "--metrics", ""], "--metrics"),
        (&["-L", "--netns", ""], "--netns takes"),
    ] {
        let outcome = flowgate().run(words);
        assert!(refused(&outcome) && outcome.errors().contains(expected), "{words:?}: {outcome:?}");
    }
}

#[test]
fn case_40_a_pipeline_file_is_no_looser() {
    let directory = std::env::temp_dir().join(format!("flowgate-lines-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("p.toml");
    for (text, expected) in [
        ("[source]\nkind = 'events'\nbuffer = '2MiB'\nbuffer-max = '1MiB'\n", "`buffer` is above `buffer-max`"),
        ("[source]\nkind = 'dump'\nselect = '-p tcp --dport 80-90'\n", "one value is taken, not a range"),
        ("[source]\nkind = 'dump'\nselect = '-s 10.0.0.0/'\n", "prefix length"),
    ] {
        std::fs::write(&file, text).unwrap();
        let outcome = flowgate().run(&["run", "--check", file.to_str().unwrap()]);
        let all = outcome.errors() + &outcome.text();
        assert!(outcome.status != 0 && all.contains(expected), "{text}: {outcome:?}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}
