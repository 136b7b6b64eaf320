//! `bake explain`, its graph, and what `bake plan` and `bake history` show of stages and of recipes
//! that others stand on.

use serde_json::Value;

use crate::lab::{Lab, Run};
use crate::tier;

fn lab() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    lab.tiny_root();
    Some(lab)
}

fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{} {}", run.out, run.err);
    run
}

fn objects(run: &Run) -> Vec<Value> {
    run.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// `place outcome` of every step of every recipe.
fn outcomes(lab: &Lab, recipe: &str) -> Vec<String> {
    let explained = good(lab.bake(["explain", "--json", recipe]));
    let mut out = vec![];
    for one in objects(&explained).iter().filter(|one| one["type"] == "explained") {
        for step in one["steps"].as_array().expect("steps") {
            let stage = step["stage"].as_str().map(|stage| format!("{stage}/")).unwrap_or_default();
            let (image, outcome) = (one["image"].as_str(), step["outcome"].as_str());
            let words = (image.expect("a name"), outcome.expect("a word"));
            out.push(format!("{} {stage}{} {}", words.0, step["step"], words.1));
        }
    }
    out
}

const STAGED: &str = "[image]\nname = \"tool\"\nversion = \"1\"\n[base]\nscratch = true\n\
    [[step]]\ncopy = \"/out/tool\"\nfrom = \"build\"\nto = \"/bin/tool\"\n\
    [[step]]\nmkdir = \"/data\"\n[[test]]\nfile = \"/bin/tool\"\n\
    [stage.build.base]\npath = \"root\"\n[[stage.build.step]]\nname = \"compile\"\n\
    run = \"mkdir /out; read line < /src/tool.c; echo $line > /out/tool\"\nmount.\"/src\" = \"src\"\n";

/// What is done after another comment in a source that a stage compiles: nothing that takes the
/// program from it runs.
#[test]
fn a_stage_that_gives_the_same_files_rebuilds_nothing_above_it() {
    let Some(lab) = lab() else { return };
    lab.write("src/tool.c", "program\n/* a comment */\n");
    lab.write("tool.toml", STAGED);
    let first = good(lab.bake(["build", "tool.toml"]));
    let cached = ["build/0 cached", "build/1 cached", "0 cached", "1 cached", "2 cached"];
    let all = |places: &[&str]| -> Vec<String> {
        places.iter().map(|place| format!("tool:1 {place}")).collect()
    };
    assert_eq!(outcomes(&lab, "tool.toml"), all(&cached));
    lab.write("src/tool.c", "program\n/* another comment */\n");
    let changed = ["build/0 cached", "build/1 runs", "0 cached", "1 depends", "2 depends"];
    assert_eq!(outcomes(&lab, "tool.toml"), all(&changed));
    let explained = lab.bake(["explain", "tool.toml"]);
    assert!(explained.out.contains("build/1"), "{}", explained.out);
    assert!(explained.out.contains("src at /src changed"), "{}", explained.out);
    let again = good(lab.bake(["build", "tool.toml", "--json"]));
    let ran: Vec<String> = objects(&again)
        .iter()
        .filter(|one| one["type"] == "step-done" && one["cached"] == false)
        .map(|one| format!("{} {}", one["stage"].as_str().unwrap_or("image"), one["step"]))
        .collect();
    assert_eq!(ran, ["build 1"]);
    assert!(
        first
            .out
            .contains(objects(&again).last().expect("baked")["digest"].as_str().expect("text"))
    );
    assert_eq!(outcomes(&lab, "tool.toml"), all(&cached));
}

/// The base and two services on it.
fn company(lab: &Lab, word: &str) {
    let base = "[image]\nname = \"company\"\nversion = \"1\"\n[base]\npath = \"root\"\n\
        [[step]]\nrun = \"echo $SOURCE_DATE_EPOCH > /built\"\n[[step]]\nfile = \"/etc/company\"\n";
    lab.write("base.toml", &format!("{base}content = \"{word}\"\n"));
    for name in ["orders", "invoices"] {
        let service = format!(
            "[image]\nname = \"{name}\"\nversion = \"{word}\"\n[base]\nrecipe = \"base.toml\"\n\
             [[step]]\nrun = \"echo {name} > /greeting\"\n[[step]]\nmkdir = \"/data\"\n"
        );
        lab.write(&format!("{name}.toml"), &service);
    }
}

/// Of a service whose base is another one it is reported why it is built again.
#[test]
fn services_are_built_again_since_their_base_has_other_layers() {
    let Some(lab) = lab() else { return };
    company(&lab, "one");
    good(lab.bake(["build", "orders.toml", "invoices.toml"]));
    company(&lab, "two");
    let expected = [
        "company:1 0 cached",
        "company:1 1 cached",
        "company:1 2 runs",
        "orders:two 0 depends",
        "orders:two 1 depends",
        "orders:two 2 depends",
    ];
    assert_eq!(outcomes(&lab, "orders.toml"), expected);
    let explained = good(lab.bake(["explain", "orders.toml"]));
    assert!(explained.out.contains("was \"one\", is \"two\""), "{}", explained.out);
    // What is only stood on is not published: nothing is refused because of it.
    good(lab.bake(["build", "base.toml", "--set-version", "0"]));
    let built = good(lab.bake(["build", "orders.toml", "invoices.toml", "--json"]));
    assert!(!built.out.contains("is refused"), "{}", built.out);
    for image in ["orders:two", "invoices:two"] {
        let missed: Vec<String> = objects(&built)
            .iter()
            .filter(|one| one["type"] == "step-missed" && one["image"] == image)
            .map(|one| format!("{} {}", one["step"], one["why"].as_str().expect("text")))
            .collect();
        let why = "its base, recipe base.toml, has other layers";
        assert_eq!(missed, [format!("1 {why}"), format!("2 {why}")], "{image}");
    }
    let cached = outcomes(&lab, "orders.toml");
    assert!(cached.iter().all(|line| line.ends_with("cached")), "{cached:?}");
}

/// A step that is named is one of the recipes that were asked for.
#[test]
fn a_step_that_is_run_again_by_name_is_none_of_what_the_recipe_stands_on() {
    let Some(lab) = lab() else { return };
    company(&lab, "one");
    good(lab.bake(["build", "orders.toml"]));
    let ran = |no_cache: &str| -> Vec<(String, u64)> {
        let built = good(lab.bake(["build", "orders.toml", "--json", no_cache]));
        let ran = objects(&built).into_iter();
        ran.filter(|one| one["type"] == "step-missed" && one["reason"] == "no-cache")
            .map(|one| {
                let image = one["image"].as_str().expect("of one of two").to_owned();
                (image, one["step"].as_u64().expect("a number"))
            })
            .collect()
    };
    // The second of the base is another one, and the service's name is none of the base's.
    for name in ["--no-cache=2", "--no-cache=mkdir /data"] {
        assert_eq!(ran(name), [("orders:one".to_owned(), 2)], "{name}");
    }
    assert!(ran("--no-cache").contains(&("company:1".to_owned(), 2)));
    // Of several recipes one has to have it.
    let both = ["base.toml", "orders.toml", "--no-cache=mkdir /data"];
    let explained = good(lab.bake(["explain"].iter().chain(&both)));
    assert_eq!(explained.out.matches("--no-cache").count(), 1, "{}", explained.out);
    good(lab.bake(["build"].iter().chain(&both)));
    let failed = lab.bake(["explain", "base.toml", "orders.toml", "--no-cache=nothing"]);
    assert!(failed.code == 2 && failed.err.contains("nothing"), "{}", failed.err);
    let failed = lab.bake(["build", "orders.toml", "--no-cache=nothing"]);
    assert!(failed.code == 2 && failed.err.contains("orders.toml"), "{}", failed.err);
}

#[test]
fn the_graph_has_every_node_behind_what_it_is_made_from() {
    let Some(lab) = lab() else { return };
    company(&lab, "one");
    lab.write("src/tool.c", "program\n");
    lab.write("tool.toml", STAGED);
    good(lab.bake(["build", "tool.toml"]));
    let recipes = ["tool.toml", "orders.toml"];
    let text = good(lab.bake(["explain", "--graph"].iter().chain(&recipes))).out;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = text.lines().map(words).collect();
    for row in [
        "build/1 18 compile cached build/base, src at /src",
        "stage build 14 build cached build/1",
        "1 7 copy /out/tool cached base, /out/tool of stage build",
        "image tool:1 baked 2",
        "test 1 13 file /bin/tool image",
        "base 5 recipe base.toml depends company:1",
    ] {
        assert!(rows.iter().any(|one| one == row), "{row}\n{text}");
    }
    let graph = good(lab.bake(["explain", "--graph", "--json"].iter().chain(&recipes)));
    let graph = objects(&graph).remove(0);
    let nodes = graph["nodes"].as_array().expect("nodes");
    let mut seen: Vec<&str> = vec![];
    for node in nodes {
        for input in node["inputs"].as_array().expect("inputs") {
            if input["from"] == "node" {
                let of = input["node"].as_str().expect("an id");
                assert!(seen.contains(&of), "{of} is not before {}", node["id"]);
            }
        }
        let id = node["id"].as_str().expect("an id");
        assert!(!seen.contains(&id), "{id} twice");
        seen.push(id);
    }
    for id in ["tool:1 stage build", "tool:1 build/1", "tool:1 test 1", "company:1", "orders:one 2"]
    {
        assert!(seen.contains(&id), "{id}: {seen:?}");
    }
    let dot = good(lab.bake(["explain", "--dot"].iter().chain(&recipes))).out;
    for edge in [
        "\"tool:1 stage build\" -> \"tool:1 1\" [label=\"/out/tool\"];",
        "\"company:1\" -> \"orders:one base\";",
        "\"tool:1 2\" -> \"tool:1\";",
    ] {
        assert!(dot.contains(edge), "{edge}\n{dot}");
    }
    assert!(dot.starts_with("digraph ") && dot.ends_with("}\n"), "{dot}");
    assert_eq!(dot.matches('{').count(), dot.matches('}').count(), "{dot}");
}

#[test]
fn plan_and_history_show_stages_and_what_a_recipe_stands_on() {
    let Some(lab) = lab() else { return };
    company(&lab, "one");
    lab.write("src/tool.c", "program\n");
    lab.write("tool.toml", STAGED);
    let plan = good(lab.bake(["plan", "tool.toml", "orders.toml"]));
    for part in
        ["build/base", "build/1", "compile", "company:1\n", "orders:one\n", "recipe base.toml"]
    {
        assert!(plan.out.contains(part), "{part}: {}", plan.out);
    }
    let plan = objects(&good(lab.bake(["plan", "--json", "tool.toml", "orders.toml"])));
    assert_eq!(plan[0]["stages"][0]["stage"], "build");
    assert_eq!(plan[0]["stages"][0]["steps"][0]["label"], "compile");
    let asked: Vec<(&Value, &Value)> =
        plan.iter().map(|one| (&one["image"], &one["asked"])).collect();
    assert!(asked.contains(&(&"company:1".into(), &false.into())), "{asked:?}");
    assert!(asked.contains(&(&"orders:one".into(), &true.into())), "{asked:?}");

    good(lab.bake(["build", "base.toml", "orders.toml"]));
    let history = objects(&good(lab.bake(["history", "orders:one", "--json"])));
    let of: Vec<&Value> = history.iter().map(|row| &row["of"]).collect();
    let base = &Value::from("recipe base.toml");
    let own = &Value::Null;
    // Base, two steps and identity of the base; then two steps and identity of its own.
    assert_eq!(of, [base, base, base, base, own, own, own]);
    let text = good(lab.bake(["history", "orders:one"])).out;
    assert!(text.contains("OF") && text.contains("recipe base.toml"), "{text}");
    let text = good(lab.bake(["history", "company:1"])).out;
    assert!(!text.contains("OF"), "{text}");
}
