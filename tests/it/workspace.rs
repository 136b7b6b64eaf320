//! Workspaces: which recipes are meant, what `bake.toml` gives to them, and what it cannot do.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bake::recipe::{self, Inputs, Recipe, WorkspaceFile};

use crate::base_mirror::{Reply, Server};
use crate::lab::{Lab, Run, good, run};
use crate::tier;

/// A recipe without a base, which any host can check.
fn image(name: &str, rest: &str) -> String {
    format!("[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\nscratch = true\n{rest}")
}

/// Reads a recipe below a workspace.
fn read(workspace: &str, rest: &str, inputs: Inputs) -> Result<Recipe, String> {
    let workspace = WorkspaceFile {
        file: PathBuf::from("bake.toml"),
        directory: PathBuf::from("/w"),
        text: workspace.into(),
    };
    let inputs = Inputs {
        file: PathBuf::from("x.toml"),
        arch: "amd64".into(),
        workspace: Some(Arc::new(workspace)),
        ..inputs
    };
    recipe::read(&image("x", rest), &inputs)
        .map_err(|found| bake::ui::diagnostic::render(&found, false))
}

/// What the first step of a recipe is lowered to.
fn step(workspace: &str, rest: &str) -> String {
    let recipe = read(workspace, rest, Inputs::default()).unwrap_or_else(|why| panic!("{why}"));
    format!("{:?}", recipe.steps[0].ops)
}

/// The recipes that `bake check` finds, and that nothing is wrong with them.
fn checked(lab: &Lab, at: &str, args: &[&str]) -> Vec<String> {
    let mut command = lab.command(["check"].iter().chain(args));
    let run = good(run(command.current_dir(lab.path(at))));
    let name = |line: &str| line.split(": ok").next().unwrap_or_default().to_owned();
    run.err.lines().map(name).collect()
}

/// What bake reports of a workspace that cannot be used.
fn refused(lab: &Lab, args: &[&str]) -> String {
    let run = lab.bake(args);
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
    run.err
}

#[test]
fn a_recipe_has_the_variables_of_its_workspace() {
    let vars = "[vars]\nsite = \"blue\"\nport = 80\nunused = true\n";
    let own = "[vars]\nport = 90\n[[step]]\nfile = \"/x\"\ncontent = \"{{ site }} {{ port }}\"\n";
    assert!(step(vars, own).contains("blue 90"), "{}", step(vars, own));
    // What is not used is in nothing that a key is made of.
    let used = "[[step]]\nfile = \"/x\"\ncontent = \"{{ site }}\"\n";
    assert_eq!(step(vars, used), step("[vars]\nsite = \"blue\"\n", used));
    let other = read(vars, "[[step]]\nwhen = \"unused == 3\"\nrun = \"x\"\n", Inputs::default());
    assert!(other.is_ok_and(|recipe| recipe.steps.is_empty()));
}

#[test]
fn a_recipe_that_requires_a_variable_takes_the_value_of_its_workspace() {
    let own = "[vars]\nsite = { values = [\"blue\", \"green\"] }\n[[step]]\nfile = \"/x\"\n\
        content = \"{{ site }}\"\n";
    for value in ["\"green\"", "{ default = \"green\", help = \"x\" }"] {
        let made = step(&format!("[vars]\nsite = {value}\n"), own);
        assert!(made.contains("green"), "{made}");
    }
    let wrong = read("[vars]\nsite = \"red\"\n", own, Inputs::default()).unwrap_err();
    assert!(wrong.contains("bake.toml:2:9"), "{wrong}");
    assert!(wrong.contains("\"red\" is not a value of `site`"), "{wrong}");
    let none = read("[vars]\nother = {}\nsite = {}\n", own, Inputs::default()).unwrap_err();
    assert!(none.contains("bake.toml:2:1") && none.contains("`other` has no value"), "{none}");
    assert!(none.contains("x.toml:7:1") && none.contains("`site` has no value"), "{none}");
}

#[test]
fn values_from_outside_win_over_both() {
    let given = |env: &str, file: &str, line: &str| {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let inputs = Inputs {
            env_vars: some(env).map(|text| ("port".to_owned(), text)).into_iter().collect(),
            vars_files: some(file).map(|text| (PathBuf::from("v"), text)).into_iter().collect(),
            vars: some(line).map(|text| ("port".to_owned(), text)).into_iter().collect(),
            ..Inputs::default()
        };
        let rest = "[[step]]\nfile = \"/x\"\ncontent = \"<{{ port }}>\"\n";
        let read = read("[vars]\nport = 1\n", rest, inputs);
        read.map(|recipe| format!("{:?}", recipe.steps[0].ops))
    };
    for (env, file, line, value) in
        [("", "", "", 1), ("2", "", "", 2), ("2", "port = 3", "", 3), ("2", "port = 3", "4", 4)]
    {
        let made = given(env, file, line).unwrap();
        assert!(made.contains(&format!("<{value}>")), "{env} {file} {line}: {made}");
    }
    let wrong = given("", "", "eighty").unwrap_err();
    assert!(wrong.contains("<command line>") && wrong.contains("is not an integer"), "{wrong}");
}

#[test]
fn defaults_of_a_workspace_are_as_if_the_recipe_had_them() {
    let defaults = "[defaults]\nenv.A = \"all\"\nenv.B = \"all\"\nenv.C = \"{{ name }}\"\n\
        shell = \"bash\"\ntimeout = \"5m\"\nas = \"app\"\nworkdir = \"/w\"\nnetwork = true\n";
    let run = "[[step]]\nrun = \"true\"\n";
    assert_eq!(step(defaults, run), step("", &format!("{defaults}{run}")));
    // Maps add, single values replace: the step over the stage's, the recipe's, the workspace's.
    let own = format!("[defaults]\nenv.B = \"own\"\nshell = \"sh\"\n{run}env.D = \"step\"\n");
    let made = step(defaults, &own);
    for part in ["\"A\": \"all\"", "\"B\": \"own\"", "\"C\": \"x\"", "\"D\": \"step\"", "/bin/sh"] {
        assert!(made.contains(part), "{part}: {made}");
    }
    assert!(!made.contains("bash") && made.contains("\"app\""), "{made}");
    let lowered = read(defaults, &own, Inputs::default()).unwrap();
    assert!(format!("{:?}", lowered.steps[0]).contains("300s"), "{:?}", lowered.steps[0]);
    // What a step shows of a context belongs to one recipe.
    let mount = read("[defaults]\nmount.\"/src\" = \"web\"\n", run, Inputs::default()).unwrap_err();
    assert!(mount.contains("bake.toml:2:1") && mount.contains("unknown key \"mount\""), "{mount}");
    let wrong = read("[defaults]\nenv.A = \"{{ who }}\"\n", run, Inputs::default()).unwrap_err();
    assert!(wrong.contains("bake.toml:2:13") && wrong.contains("unknown variable"), "{wrong}");
}

#[test]
fn the_recipe_here_wins_and_without_it_all_members_are_meant() {
    let lab = Lab::new();
    for (file, name) in [
        ("one.toml", "one"),
        ("images/web/recipe.toml", "web"),
        ("images/db/recipe.toml", "db"),
        ("images/db/deep/recipe.toml", "deep"),
        ("images/old/recipe.toml", "old"),
        (".hidden/recipe.toml", "hidden"),
    ] {
        lab.write(file, &image(name, ""));
    }
    lab.write("images/none/README", "");
    let none = lab.bake(["check"]);
    assert_eq!(none.code, 2);
    assert!(none.err.contains("no bake.toml here or above"), "{}", none.err);
    lab.write("bake.toml", "members = [\"*.toml\", \"images/*\"]\nexclude = [\"images/old\"]\n");
    let all = ["images/db/recipe.toml", "images/web/recipe.toml", "one.toml"];
    assert_eq!(checked(&lab, "", &[]), all);
    assert_eq!(checked(&lab, "", &["."]), all.map(|one| format!("./{one}")));
    assert_eq!(checked(&lab, "", &["bake.toml"]), all);
    assert_eq!(checked(&lab, "images", &[]), all.map(|one| format!("../{one}")));
    assert_eq!(checked(&lab, "images/web", &[]), ["recipe.toml"]);
    assert_eq!(checked(&lab, "images/web", &["../../one.toml"]), ["../../one.toml"]);
    // As globs of the shell: a star is one name, and none that begins with a dot.
    lab.write("bake.toml", "members = [\"**/recipe.toml\"]\n");
    let deep = ["db/deep", "db", "old", "web"].map(|one| format!("images/{one}/recipe.toml"));
    assert_eq!(checked(&lab, "", &[]), deep);
    lab.write("bake.toml", "members = [\".hidden\", \"./one.toml\", \"one.*\"]\n");
    assert_eq!(checked(&lab, "", &[]), [".hidden/recipe.toml", "one.toml"]);
    // Through a symlink inside it is the same recipe.
    symlink("one.toml", lab.path("two.toml")).expect("our own symlink");
    lab.write("bake.toml", "members = [\"*.toml\"]\n");
    assert_eq!(checked(&lab, "", &[]), ["one.toml"]);
    lab.write("recipe.toml", &image("here", ""));
    assert_eq!(checked(&lab, "", &[]), ["recipe.toml"]);
    let shell = lab.bake(["plan", "bake.toml"]);
    assert_eq!(good(shell).out.matches("scratch").count(), 2);
}

#[test]
fn programs_read_recipes_with_their_workspace_too() {
    let lab = Lab::new();
    let text = image("x", "").replace("version = \"1\"", "version = \"{{ release }}\"");
    let recipe = bake::Recipe::open(lab.write("a/x.toml", &text));
    assert!(recipe.check().is_err());
    for release in ["1.0.0", "2.0.0"] {
        lab.write("bake.toml", &format!("[vars]\nrelease = \"{release}\"\n"));
        assert_eq!(recipe.check().expect("right").image, format!("x:{release}"));
    }
}

#[test]
fn included_steps_have_the_defaults_and_only_the_variables_that_are_given() {
    let lab = Lab::new();
    let vars = "[vars]\nvendor = \"Example\"\n[defaults]\nenv.BY = \"{{ vendor }}\"\n";
    lab.write("bake.toml", vars);
    lab.write("x.toml", &image("x", "[[step]]\ninclude = \"part.toml\"\n"));
    lab.write("part.toml", "[[step]]\nrun = \"true\"\n");
    let plan = good(lab.bake(["plan", "x.toml", "--json"])).out;
    assert!(plan.contains("\"env\":{\"BY\":\"Example\"}"), "{plan}");
    lab.write("part.toml", "[[step]]\nrun = \"echo {{ vendor }}\"\n");
    let unknown = refused(&lab, &["check", "x.toml"]);
    assert!(unknown.contains("part.toml:2:16"), "{unknown}");
}

#[test]
fn commands_for_one_recipe_say_which_there_are() {
    let lab = Lab::new();
    lab.write("bake.toml", "members = [\"*.toml\"]\n");
    assert!(refused(&lab, &["check"]).contains("matches no recipe"));
    lab.write("bake.toml", "");
    let none = refused(&lab, &["check"]);
    assert!(none.contains("the workspace bake.toml has no members"), "{none}");
    lab.write("bake.toml", "members = [\"a.toml\", \"b.toml\"]\n");
    lab.write("a.toml", &image("a", ""));
    lab.write("b.toml", &image("b", ""));
    let push = refused(&lab, &["build", "--push", "localhost:1/x"]);
    assert!(push.contains("there are several"), "{push}");
}

#[test]
fn the_nearest_file_counts_up_to_a_repository() {
    let lab = Lab::new();
    let uses = image("x", "[[step]]\nfile = \"/x\"\ncontent = \"{{ place }}\"\n");
    lab.write("bake.toml", "[vars]\nplace = \"top\"\n");
    lab.write("a/b/x.toml", &uses);
    assert_eq!(checked(&lab, "", &["a/b/x.toml"]), ["a/b/x.toml"]);
    lab.write("a/bake.toml", "[vars]\nother = 1\n");
    let nearest = refused(&lab, &["check", "a/b/x.toml"]);
    assert!(nearest.contains("a/b/x.toml:8:15"), "{nearest}");
    fs::remove_file(lab.path("a/bake.toml")).expect("ours");
    // A checkout inside of another directory is a world of its own.
    fs::create_dir(lab.path("a/.git")).expect("ours");
    let stopped = refused(&lab, &["check", "a/b/x.toml"]);
    assert!(stopped.contains("unknown variable"), "{stopped}");
    lab.write("a/bake.toml", "[vars]\nplace = \"beside .git\"\n");
    assert_eq!(checked(&lab, "a/b", &["x.toml"]), ["x.toml"]);
    // The directory is where it really is.
    symlink("a/b", lab.path("short")).expect("our own symlink");
    assert_eq!(checked(&lab, "", &["short/x.toml"]), ["short/x.toml"]);
    lab.write("a/bake.toml", "[vars]\nplace = 1.5\n");
    let real = refused(&lab, &["check", "short/x.toml"]);
    assert!(real.contains(&format!("{}:2:9", lab.path("a/bake.toml").display())), "{real}");
    let up = run(lab.command(["check", "x.toml"]).current_dir(lab.path("a/b")));
    assert!(up.err.contains("--> ../bake.toml:2:9"), "{}", up.err);
}

#[test]
fn members_lie_in_the_workspace() {
    let lab = Lab::new();
    lab.write("out/x/recipe.toml", &image("x", ""));
    lab.write("w/in.toml", &image("in", ""));
    symlink("../out", lab.path("w/link")).expect("our own symlink");
    symlink("../out/x/recipe.toml", lab.path("w/file.toml")).expect("our own symlink");
    symlink("nowhere", lab.path("w/dangling.toml")).expect("our own symlink");
    for (members, why) in [
        ("\"../out/*\"", "leads out of the workspace"),
        ("\"in.toml\", \"link/x\"", "link/x/recipe.toml leads out of the workspace"),
        ("\"*/*/recipe.toml\"", "link/x/recipe.toml leads out of the workspace"),
        ("\"f*.toml\"", "file.toml leads out of the workspace"),
        ("\"in.toml/x\"", "matches no recipe"),
        ("\"nothing/*.toml\"", "matches no recipe"),
        ("\"**/recipe.toml\"", "matches no recipe"),
    ] {
        lab.write("w/bake.toml", &format!("members = [{members}]\n"));
        let found = refused(&lab, &["check", "w"]);
        assert!(found.contains("w/bake.toml:1:") && found.contains(why), "{members}: {found}");
    }
    lab.write("w/bake.toml", "members = [\"d*.toml\"]\n");
    let dangling = refused(&lab, &["check", "w"]);
    assert!(dangling.contains("cannot read w/dangling.toml"), "{dangling}");
    lab.write("w/bake.toml", "members = [\"*.toml\"]\nexclude = [\"file.toml\", \"d*\"]\n");
    assert_eq!(checked(&lab, "w", &[]), ["in.toml"]);
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let lab = Lab::new();
    lab.write("x.toml", &image("x", ""));
    let path = lab.path("bake.toml");
    let both = |why: &str| {
        for args in [&["check"] as &[&str], &["check", "x.toml"], &["build", "x.toml"]] {
            let found = refused(&lab, args);
            assert!(found.contains("bake.toml") && found.contains(why), "{args:?}: {found}");
        }
    };
    fs::create_dir(&path).expect("ours");
    both("is a directory");
    fs::remove_dir(&path).expect("ours");
    let name = CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL byte");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        name.as_c_str(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a FIFO");
    both("not a regular file");
    fs::remove_file(&path).expect("ours");
    symlink("nowhere", &path).expect("our own symlink");
    both("No such file");
    fs::remove_file(&path).expect("ours");
    fs::File::create(&path).and_then(|file| file.set_len(17 << 20)).expect("a sparse file");
    both("more than 16777216 bytes");
    fs::write(&path, b"[vars]\na = \"\xff\"\n").expect("ours");
    both("not UTF-8 text");
    lab.write("bake.toml", "members = [\n");
    both("not TOML");
    lab.write("bake.toml", "[image]\nname = \"x\"\n");
    both("`bake.toml` has no `image`");
    // What editors of other systems write is no mistake.
    lab.write("bake.toml", "\u{feff}members = [\"x.toml\"]\r\n[vars]\r\na = \"b\"\r\n");
    assert_eq!(checked(&lab, "", &[]), ["x.toml"]);
}

#[test]
fn root_a_file_of_somebody_else_in_a_common_directory_is_refused() {
    if !tier::root() {
        return;
    }
    let lab = Lab::new();
    let common = lab.path("common");
    lab.write("common/mine/x.toml", &image("x", ""));
    let file = lab.write("common/bake.toml", "[defaults]\nenv.LD_PRELOAD = \"/evil\"\n");
    let owner = |path: &Path, id| std::os::unix::fs::chown(path, Some(id), Some(id)).expect("root");
    owner(&file, 12_345);
    fs::set_permissions(&common, fs::Permissions::from_mode(0o1777)).expect("ours");
    let found = refused(&lab, &["check", "common/mine/x.toml"]);
    assert!(found.contains("cannot read common/bake.toml"), "{found}");
    assert!(found.contains("it belongs to user 12345"), "{found}");
    // By way of a symlink of theirs to a file of ours.
    lab.write("own.toml", "");
    fs::remove_file(&file).expect("ours");
    symlink("../own.toml", &file).expect("our own symlink");
    std::os::unix::fs::lchown(&file, Some(12_345), Some(12_345)).expect("root");
    assert!(refused(&lab, &["check", "common/mine/x.toml"]).contains("it belongs to user 12345"));
    // Whose recipe it is may have the workspace too; and nobody else can put one elsewhere.
    owner(&lab.path("common/mine"), 12_345);
    assert_eq!(checked(&lab, "", &["common/mine/x.toml"]).len(), 1);
    owner(&lab.path("common/mine"), 0);
    fs::set_permissions(&common, fs::Permissions::from_mode(0o755)).expect("ours");
    assert_eq!(checked(&lab, "", &["common/mine/x.toml"]).len(), 1);
}

#[test]
fn formatting_knows_the_file() {
    let lab = Lab::new();
    lab.write("x.toml", &image("x", ""));
    lab.write(
        "bake.toml",
        "# ours\n\nstore='s' # here\nmembers=['x.toml']\n[defaults]\ntimeout='5m'\n\
            shell='sh'\n[defaults.env]\nB='1'\n[vars]\na=1\n",
    );
    let first = lab.bake(["fmt", "--check"]);
    assert_eq!(first.code, 1, "{}", first.err);
    for name in ["x.toml", "bake.toml"] {
        assert!(first.err.contains(&format!("{name} is not formatted")), "{}", first.err);
    }
    good(lab.bake(["fmt", "bake.toml"]));
    assert_eq!(
        fs::read_to_string(lab.path("bake.toml")).expect("ours"),
        "# ours\n\nmembers = ['x.toml']\nstore = 's'  # here\n\n[vars]\na = 1\n\n[defaults]\n\
            shell = 'sh'\nenv.B = '1'\ntimeout = '5m'\n"
    );
    assert_eq!(lab.bake(["fmt", "--check"]).code, 1, "the recipe is as it was");
    good(lab.bake(["fmt"]));
    good(lab.bake(["fmt", "--check"]));
}

#[test]
fn the_store_of_a_workspace_is_between_the_environment_and_the_built_in_one() {
    let lab = Lab::new();
    lab.write("w/bake.toml", "store = \"images\"\nmembers = [\"x.toml\"]\n");
    lab.write("w/x.toml", &image("x", ""));
    lab.write("v/bake.toml", "store = \"images\"\n");
    lab.write("v/y.toml", &image("y", ""));
    let bake = |at: &str, args: &[&str], store: Option<&str>| {
        let mut command = lab.command(args);
        command.env_remove("BAKE_STORE").current_dir(lab.path(at));
        store.inspect(|store| _ = command.env("BAKE_STORE", lab.path(store)));
        run(&mut command)
    };
    // `bake list` makes no store; where it looks is seen by what is wrong there.
    let looks_at = |run: &Run, name: &str| {
        assert_eq!(run.code, 11, "{}", run.err);
        assert!(run.err.contains(&lab.path(name).display().to_string()), "{}", run.err);
    };
    for name in ["w/images", "given", "set", "v/images"] {
        lab.write(&format!("{name}/file"), "no store");
    }
    looks_at(&bake("w", &["list"], None), "w/images");
    looks_at(&bake("w", &["list"], Some("set")), "set");
    let given = lab.path("given");
    let given = given.to_str().expect("text");
    looks_at(&bake("w", &["list", "--store", given], Some("set")), "given");
    good(bake("", &["list"], None));
    lab.write("w/deep/README", "");
    looks_at(&bake("w/deep", &["list"], None), "w/images");
    if !tier::sandbox() {
        return;
    }
    // That of the recipe, wherever it is called from.
    looks_at(&bake("", &["build", "w/x.toml"], None), "w/images");
    looks_at(&bake("v", &["build", "../w"], None), "w/images");
    let two = bake("", &["build", "w/x.toml", "v/y.toml"], None);
    assert_eq!(two.code, 2, "{}", two.err);
    assert!(two.err.contains("have several stores"), "{}", two.err);
}

#[test]
fn the_mirror_of_a_workspace_is_asked_where_nobody_names_another() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let servers = ["workspace", "environment", "line", "recipe"].map(|name| {
        let asked = Arc::clone(&asked);
        Server::start(move |_| {
            asked.lock().expect("no panic while held").insert(name);
            Reply::Status(404)
        })
    });
    let [all, env, line, own] = servers.each_ref().map(|one| format!("{}/debian", one.url));
    lab.write("bake.toml", &format!("mirror = \"{all}\"\n"));
    let debian = image("x", "").replace("scratch = true", "debian = \"bookworm\"");
    lab.write("any.toml", &debian);
    lab.write("own.toml", &format!("{debian}mirror = \"{own}\"\n"));
    let asks = |recipe: &str, env: &str, args: &[&str]| {
        asked.lock().expect("no panic while held").clear();
        let mut command = lab.command(["lock", recipe].iter().chain(args));
        command.env("BAKE_DEBIAN_MIRROR", env).env("BAKE_NETWORK_TIMEOUT", "5s");
        let ended = run(&mut command);
        assert_eq!(ended.code, 1, "{}", ended.err);
        asked.lock().expect("no panic while held").iter().copied().collect::<Vec<_>>()
    };
    assert_eq!(asks("any.toml", "", &[]), ["workspace"]);
    assert_eq!(asks("any.toml", &env, &[]), ["environment"]);
    assert_eq!(asks("any.toml", &env, &["--debian-mirror", &line]), ["line"]);
    assert_eq!(asks("own.toml", &env, &[]), ["recipe"]);
    lab.write(
        "below/other.toml",
        &image("y", "").replace("scratch = true", "recipe = \"../any.toml\""),
    );
    lab.write("below/bake.toml", "");
    assert_eq!(asks("below/other.toml", "", &[]), ["workspace"], "that of its own directory");
}

#[test]
fn root_a_current_directory_of_somebody_else_is_no_workspace() {
    if !tier::root() || !tier::tool("setpriv") {
        return;
    }
    let lab = Lab::new();
    lab.write("closed/deep/bake.toml", "store = 1\n");
    let list = |at: &str, mode: &str| {
        let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
        let script = format!("cd {at} && chmod {mode} \"$1/closed\" && exec {user} \"$0\" list");
        let mut command = lab.command(["-c", &script, env!("CARGO_BIN_EXE_bake")]);
        let mut shell = Command::new("/bin/sh");
        shell.args(command.get_args()).arg(lab.path("")).current_dir(lab.path("")).env_clear();
        shell.envs(
            command
                .env_remove("BAKE_STORE")
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let ended = run(&mut shell);
        fs::set_permissions(lab.path("closed"), fs::Permissions::from_mode(0o755)).expect("ours");
        ended
    };
    let open = list("closed/deep", "755");
    assert!(open.code == 2 && open.err.contains("bake.toml:1:9"), "{}", open.err);
    // It is there, and cannot find out where that is.
    for at in ["closed", "closed/deep"] {
        assert_eq!(good(list(at, "700")).out, "", "{at}");
    }
}

/// A lab with a tiny root and two members.
fn built() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    crate::lab::tiny_root(&lab.path("a/root"));
    for name in ["a", "b"] {
        let base = if name == "a" { "path = \"root\"" } else { "recipe = \"../a/recipe.toml\"" };
        let text = format!(
            "[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\n{base}\n[[step]]\n\
             run = \"echo $WHO {{{{ word }}}} > /{name}\"\n"
        );
        lab.write(&format!("{name}/recipe.toml"), &text);
    }
    lab.write("bake.toml", WORKSPACE);
    Some(lab)
}

const WORKSPACE: &str = "members = [\"*\"]\nexclude = [\"store\"]\n[vars]\nword = \"one\"\n[defaults]\nenv.WHO = \"all\"\n";

fn content(lab: &Lab, image: &str, file: &str) -> String {
    good(lab.bake(["run", image, "cat", file])).out
}

#[test]
fn only_what_changed_is_built_and_all_is_published_together() {
    let Some(lab) = built() else { return };
    let first = good(lab.bake(["build"]));
    let names: Vec<&str> = first.out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["a:1", "b:1"], "{}", first.err);
    assert_eq!(content(&lab, "b:1", "/a"), "all one\n");
    assert_eq!(content(&lab, "b:1", "/b"), "all one\n");
    let before = lab.images_hash();
    let again = good(lab.bake(["build"]));
    assert_eq!(again.out, first.out);
    assert_eq!(again.err.matches("already baked").count(), 2, "{}", again.err);
    assert_eq!(lab.images_hash(), before);
    // The same in a recipe alone, with the key of before.
    let alone = good(lab.bake(["build", "b"]));
    assert!(alone.err.contains("already baked b:1"), "{}", alone.err);
    // A member more: only that one is built.
    let c = image("c", "[[step]]\nfile = \"/c\"\ncontent = \"{{ word }}\"\n");
    lab.write("c/recipe.toml", &c);
    let third = good(lab.bake(["build"]));
    assert_eq!(third.err.matches("already baked").count(), 2, "{}", third.err);
    assert!(third.out.contains("c:1 sha256:"), "{}", third.out);
    // A variable of all changes the key of what uses it, and one that cannot be baked keeps all.
    lab.write("bake.toml", &WORKSPACE.replace("one", "two"));
    let before = lab.images_hash();
    let other = lab.bake(["build"]);
    assert_eq!((other.code, other.out.as_str()), (1, ""), "{}", other.err);
    assert!(other.err.contains("already published with other content"), "{}", other.err);
    assert_eq!(lab.images_hash(), before);
    let next = good(lab.bake(["build", "--set-version", "2"]));
    assert_eq!(next.out.lines().count(), 3, "{}", next.err);
    assert_eq!(content(&lab, "b:2", "/b"), "all two\n");
    let explained = good(lab.bake(["explain", "--set-version", "3"])).out;
    assert!(explained.contains("a:3") && explained.contains("c:3"), "{explained}");
}

#[test]
fn a_recipe_that_others_stand_on_has_the_workspace_of_its_own_directory() {
    let Some(lab) = built() else { return };
    lab.write("a/bake.toml", "[vars]\nword = \"below\"\n[defaults]\nenv.WHO = \"a\"\n");
    good(lab.bake(["build", "b", "--var", "word=given"]));
    assert_eq!(content(&lab, "b:1", "/a"), "a below\n");
    assert_eq!(content(&lab, "b:1", "/b"), "all given\n");
}

#[test]
fn two_members_that_make_one_version_are_refused() {
    let Some(lab) = built() else { return };
    lab.write("c.toml", &image("a", ""));
    lab.write("bake.toml", &WORKSPACE.replace("\"*\"", "\"*\", \"*.toml\""));
    let both = lab.bake(["build"]);
    assert_eq!((both.code, both.out.as_str()), (2, ""), "{}", both.err);
    assert!(both.err.contains("a:1"), "{}", both.err);
    assert_eq!(lab.bake(["list"]).out.matches("a ").count(), 0);
}

#[test]
fn what_a_recipe_copies_does_not_hold_the_file() {
    let Some(lab) = built() else { return };
    lab.write("c.toml", &image("c", "[[step]]\ncopy = \".\"\nto = \"/c/\"\n"));
    lab.write(".bakeignore", "*\n!kept\n!bake.toml\n");
    lab.write("kept", "x");
    let names = |version: &str| {
        good(lab.bake(["build", "c.toml", "--set-version", version]));
        let image = format!("c:{version}");
        good(lab.bake(["export", &image, "--format", "manifest", "--output", "-"])).out
    };
    assert!(names("1").contains("./c/bake.toml"), "an ignore file may say so");
    lab.write(".bakeignore", "store\na\nb\n");
    let made = names("2");
    assert!(made.contains("./c/kept") && !made.contains("bake.toml"), "{made}");
    // So that a comment in it makes nothing anew.
    lab.write("bake.toml", &format!("# a comment\n{WORKSPACE}"));
    let again = good(lab.bake(["build", "c.toml", "--set-version", "2"]));
    assert!(again.err.contains("already baked"), "{}", again.err);
}
