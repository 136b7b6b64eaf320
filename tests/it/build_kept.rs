//! Directories that steps keep between builds: there again, in no image, within their limit.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::build_secrets::Place;
use crate::lab::{Run, run};

/// A step that adds a line to a cache and writes how many there are into the image.
const COUNT: &str = "[[step]]\nrun = '''\necho line >> /var/cache/lines/all\n\
    wc -l < /var/cache/lines/all > /count\n'''\n";

/// Applets of the tests that the root has not got by itself.
fn applets(place: &Place) {
    for name in ["wc", "id", "stat", "dd", "mkfifo", "rm"] {
        let _ = std::os::unix::fs::symlink("busybox", place.lab.path("root/bin").join(name));
    }
}

fn places() -> impl Iterator<Item = Place> {
    [Place::new(), Place::of_user()].into_iter().flatten().inspect(applets)
}

/// Returns what `path` of the image `name:version` holds.
#[track_caller]
fn file(place: &Place, image: &str, path: &str) -> String {
    let ran = place.bake(&["run", image, "cat", path]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out.trim().to_owned()
}

#[track_caller]
fn good(place: &Place, args: &[&str]) -> Run {
    let ran = place.bake(args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    ran
}

/// Returns the caches as `bake cache list` has them: name and files.
fn listed(place: &Place) -> Vec<(String, u64)> {
    let ran = good(place, &["cache", "list", "--json"]);
    let objects = ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    objects
        .map(|one: serde_json::Value| {
            (one["name"].as_str().expect("a name").to_owned(), one["entries"].as_u64().unwrap_or(0))
        })
        .collect()
}

#[test]
fn root_net_what_a_step_keeps_is_there_in_the_next_build_and_in_no_image() {
    for place in places() {
        let step = format!("{COUNT}cache = [\"/var/cache/lines\"]\n");
        place.recipe("one", &step);
        good(&place, &["build", "one.toml"]);
        assert_eq!(file(&place, "one:1", "/count"), "1");
        let listing = place.bake(&["run", "one:1", "ls", "/var"]);
        assert_eq!(listing.code, 1, "neither the cache nor its directory is in the image");
        assert_eq!(listed(&place), [("one:/var/cache/lines".to_owned(), 1)]);
        good(&place, &["rm", "one:1"]);
        good(&place, &["build", "--no-cache", "one.toml"]);
        assert_eq!(file(&place, "one:1", "/count"), "2");
        // Another recipe has one of its own under the same path.
        // But for a difference of its own its step would be the one that the cache has.
        place.recipe("two", &format!("{step}env.TWO = 1\n"));
        good(&place, &["build", "two.toml"]);
        assert_eq!(file(&place, "two:1", "/count"), "1");
        // A step of the step cache does not run, and its cache stays what it was.
        good(&place, &["rm", "one:1"]);
        good(&place, &["build", "one.toml"]);
        assert_eq!(file(&place, "one:1", "/count"), "2");
    }
}

#[test]
fn root_net_one_with_an_id_is_that_of_other_recipes_as_well() {
    for place in places() {
        let step = format!("{COUNT}cache = [{{ to = \"/var/cache/lines\", id = \"lines\" }}]\n");
        for (name, count) in [("one", "1"), ("two", "2")] {
            place.recipe(name, &format!("{step}env.NAME = \"{name}\"\n"));
            good(&place, &["build", &format!("{name}.toml")]);
            assert_eq!(file(&place, &format!("{name}:1"), "/count"), count);
        }
        assert_eq!(listed(&place), [("lines".to_owned(), 1)]);
    }
}

#[test]
fn root_net_it_belongs_to_the_user_of_the_step_and_each_has_one_of_its_own() {
    for place in places() {
        let step = |user: &str| {
            format!(
                "[[step]]\nas = \"{user}\"\ncache = [{{ to = \"/c\", id = \"c\" }}]\nrun = '''\n\
                    echo x >> /c/mine\nstat -c %u:%g /c > /tmp/o\ncat /tmp/o >&2\n\
                    wc -l < /c/mine >&2\n'''\n"
            )
        };
        place.recipe("users", &format!("{}{}", step("0:0"), step("7:8")));
        let ran = good(&place, &["build", "--progress=plain", "users.toml"]);
        assert!(ran.err.contains("0:0") && ran.err.contains("7:8"), "{}", ran.err);
        assert_eq!(listed(&place).len(), 2);
        good(&place, &["rm", "users:1"]);
        let ran = good(&place, &["build", "--progress=plain", "--no-cache", "users.toml"]);
        assert!(ran.err.contains("7:8"), "{}", ran.err);
        // Files of ids that only the namespace has can be removed as well.
        good(&place, &["cache", "rm", "--all"]);
        assert_eq!(listed(&place), []);
    }
}

#[test]
fn root_net_it_may_lie_inside_of_a_mount_and_over_files_of_the_image() {
    for place in places() {
        place.lab.write("src/main", "source");
        let step = "[[step]]\nrun = 'mkdir -p /opt/kept && echo image > /opt/kept/file'\n\
            [[step]]\nworkdir = \"/src\"\nmount.\"/src\" = \"src\"\n\
            cache = [\"/src/target\", \"/opt/kept\"]\nrun = '''\ncat main > target/object\n\
            ls /opt/kept > /seen\ncp target/object /object\n'''\n";
        place.recipe("nested", step);
        good(&place, &["build", "nested.toml"]);
        assert_eq!(file(&place, "nested:1", "/object"), "source");
        assert_eq!(file(&place, "nested:1", "/seen"), "", "the cache covers what the image has");
        assert_eq!(file(&place, "nested:1", "/opt/kept/file"), "image");
    }
}

/// Waits for a line of a build that contains `text`.
fn until(lines: &mut impl Iterator<Item = String>, text: &str) {
    let found = lines.any(|line| line.contains(text));
    assert!(found, "no line has {text:?}");
}

#[test]
fn root_net_locked_ones_wait_private_ones_do_not_and_none_in_use_is_removed() {
    for place in places() {
        let step = |sharing: &str, more: &str| {
            format!(
                "[[step]]\ncache = [{{ to = \"/c\", id = \"c\", sharing = \"{sharing}\" }}]\n\
                    mount.\"/gate\" = \"gate\"\nrun = '''\n{more}\n'''\n"
            )
        };
        place.lab.write("gate/file", "");
        // It holds its cache until it is ended: far longer than what follows takes.
        place.recipe("holder", &step("locked", "echo holds >&2; sleep 300"));
        let mut command = place.command(&["build", "--progress=plain", "holder.toml"]);
        let mut holder = command.stderr(Stdio::piped()).spawn().expect("bake starts");
        let lines = BufReader::new(holder.stderr.take().expect("a pipe"));
        let mut lines = lines.lines().map_while(Result::ok);
        until(&mut lines, "| holds");
        // A private one is another, at once.
        place.recipe("private", &step("private", "echo mine > /c/file; ls /c > /seen"));
        good(&place, &["build", "private.toml"]);
        assert_eq!(file(&place, "private:1", "/seen"), "file");
        let removed = place.bake(&["cache", "rm", "--all"]);
        assert_eq!(removed.code, 11, "{}", removed.err);
        assert!(removed.err.contains("a step uses c"), "{}", removed.err);
        // A locked one waits, and can be ended while it does.
        place.recipe("waiter", &step("locked", "ls /c > /seen"));
        let mut command = place.command(&["build", "--progress=plain", "waiter.toml"]);
        let mut waiter = command.stderr(Stdio::piped()).spawn().expect("bake starts");
        let waiting = BufReader::new(waiter.stderr.take().expect("a pipe"));
        let mut waiting = waiting.lines().map_while(Result::ok);
        until(&mut waiting, "waiting for the cache `c`");
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&waiter),
            rustix::process::Signal::TERM,
        )
        .expect("it is ours");
        assert_eq!(waiter.wait().expect("ends").code(), Some(130));
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&holder),
            rustix::process::Signal::KILL,
        )
        .expect("it is ours");
        holder.wait().expect("ends");
        // Of a killed build nothing holds it any more.
        good(&place, &["build", "waiter.toml"]);
    }
}

#[test]
fn root_net_the_oldest_go_where_all_take_too_much() {
    for place in places() {
        let step = |name: &str| {
            format!(
                "[[step]]\ncache = [{{ to = \"/c\", id = \"{name}\" }}]\n\
                    run = 'dd if=/dev/urandom of=/c/big bs=1M count=3 2>/dev/null'\n"
            )
        };
        assert_eq!(good(&place, &["cache", "limit", "7MiB"]).out, "7.3 MB\n");
        for name in ["a", "b", "c"] {
            place.recipe(name, &step(name));
            let ran = good(&place, &["build", &format!("{name}.toml")]);
            assert_eq!(ran.err.contains("removed the cache `a`"), name == "c", "{}", ran.err);
        }
        let names: Vec<String> = listed(&place).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["c", "b"]);
        // One that is too large alone does not stay, and the person is shown why.
        good(&place, &["cache", "limit", "1MiB"]);
        place.recipe("d", &step("d"));
        let ran = good(&place, &["build", "d.toml"]);
        assert!(ran.err.contains("removed the cache `d`"), "{}", ran.err);
        assert!(ran.err.contains("bake cache limit"), "{}", ran.err);
        assert_eq!(listed(&place), []);
    }
}

#[test]
fn root_net_what_programs_leave_behind_is_removed_from_images_and_not_from_caches() {
    for place in places() {
        let step = "[[step]]\ncache = [\"/var/cache/apt\", \"/root/.npm\"]\nrun = '''\n\
            mkdir -p /var/cache/apt/archives /root/.npm/_logs /var/log/apt\n\
            for file in /var/cache/apt/archives/a.deb /root/.npm/_logs/x /var/log/apt/y; do\n\
            test -e $file && echo \"was there: $file\" >&2 || echo 1 > $file\ndone\n'''\n";
        place.recipe("one", step);
        good(&place, &["build", "one.toml"]);
        let again = ["build", "--progress=plain", "--set-version=2", "--no-cache", "one.toml"];
        let ran = good(&place, &again);
        for (file, stays) in [
            ("/var/cache/apt/archives/a.deb", true),
            ("/root/.npm/_logs/x", true),
            ("/var/log/apt/y", false),
        ] {
            assert_eq!(ran.err.contains(&format!("was there: {file}")), stays, "{}", ran.err);
        }
    }
}

#[test]
fn root_net_paranoid_finds_an_image_that_depends_on_a_cache() {
    for place in places() {
        place.recipe("one", &format!("{COUNT}cache = [\"/var/cache/lines\"]\n"));
        good(&place, &["build", "one.toml"]);
        // Another that adds a line, so that what is kept is no longer what it was.
        let other = format!("{COUNT}cache = [\"/var/cache/lines\"]\nenv.OTHER = 1\n");
        place.recipe("one", &other);
        good(&place, &["build", "--set-version=2", "one.toml"]);
        let ran = place.bake(&["build", "--paranoid", "--set-version=2", "one.toml"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("gave another layer than the one in the cache"), "{}", ran.err);
    }
}

#[test]
fn root_net_gc_leaves_caches_alone() {
    for place in places() {
        place.recipe("one", &format!("{COUNT}cache = [\"/var/cache/lines\"]\n"));
        good(&place, &["build", "one.toml"]);
        good(&place, &["gc", "--cache-older-than", "0s"]);
        good(&place, &["rm", "one:1"]);
        good(&place, &["build", "--no-cache", "one.toml"]);
        assert_eq!(file(&place, "one:1", "/count"), "2");
    }
}

#[test]
fn root_net_caches_travel_in_a_file_with_owners_and_hostile_ones_change_nothing() {
    for place in places() {
        let step = "[[step]]\nas = \"7:8\"\ncache = [{ to = \"/c\", id = \"c\" }]\nrun = '''\n\
            echo x >> /c/mine\nln -sf mine /c/link\nmkdir -p /c/d && chmod 700 /c/d\n\
            wc -l < /c/mine > /tmp/n; cat /tmp/n >&2\n'''\n";
        place.recipe("one", step);
        good(&place, &["build", "one.toml"]);
        good(&place, &["cache", "export", "--output", "caches.tar"]);
        good(&place, &["cache", "rm", "c"]);
        assert_eq!(listed(&place), []);
        let bytes = fs::read(place.lab.path("caches.tar")).expect("it was written");
        // Cut short, and with one byte changed in every part of it.
        let mut hostile = vec![("cut".to_owned(), bytes[..bytes.len() / 2].to_vec())];
        hostile.push(("nothing".to_owned(), vec![]));
        hostile.push(("other".to_owned(), b"no archive at all".repeat(100)));
        for at in [3, 300, 520, 600, 1600, 1800] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            hostile.push((format!("byte {at}"), other));
        }
        for (what, bytes) in hostile {
            fs::write(place.lab.path("bad.tar"), bytes).expect("written");
            let ran = place.bake(&["cache", "import", "bad.tar"]);
            // A changed byte of a name or an id is another cache, and none of those that there are.
            if ran.code == 0 {
                assert!(what.starts_with("byte"), "{what}");
                good(&place, &["cache", "rm", "--all"]);
            }
            assert_eq!(listed(&place), [], "{what}");
        }
        let ran = good(&place, &["cache", "import", "caches.tar"]);
        assert!(ran.err.contains("imported c"), "{}", ran.err);
        good(&place, &["rm", "one:1"]);
        let ran = good(&place, &["build", "--progress=plain", "--no-cache", "one.toml"]);
        assert!(ran.err.contains("| 2"), "{}", ran.err);
    }
}

#[test]
fn root_net_a_failing_step_keeps_what_it_wrote_and_one_that_is_no_directory_is_an_error() {
    for place in places() {
        let step = |more: &str| {
            format!("[[step]]\ncache = [\"/c\"]\nrun = '''\necho x >> /c/all\n{more}\n'''\n")
        };
        place.recipe("one", &step("exit 3"));
        assert_eq!(place.bake(&["build", "one.toml"]).code, 1);
        place.recipe("one", &step("wc -l < /c/all > /count"));
        good(&place, &["build", "one.toml"]);
        assert_eq!(file(&place, "one:1", "/count"), "2");
        good(&place, &["cache", "rm", "one:/c"]);
        let missing = place.bake(&["cache", "rm", "one:/c"]);
        assert_eq!(missing.code, 1);
        assert!(missing.err.contains("there is no cache `one:/c`"), "{}", missing.err);
    }
}

#[test]
fn mistakes_of_caches_are_shown_with_their_lines() {
    let Some(place) = Place::new() else { return };
    for (keys, message) in [
        ("cache = [\"relative\"]", "absolute"),
        ("cache = [\"/\"]", "/"),
        ("cache = [\"/a\", \"/a/\"]", "two caches at \"/a\""),
        ("cache = [\"/a\", \"/a/b\"]", "is inside the one at \"/a\""),
        ("cache = [{ to = \"/a\", id = \"../x\" }]", "is not a name of a cache"),
        ("cache = [{ to = \"/a\", sharing = \"mine\" }]", "sharing"),
        ("cache = [{ id = \"a\" }]", "without `to`"),
        ("cache = [{ to = \"/a\", od = \"a\" }]", "did you mean"),
        ("cache = \"/a\"", "a list"),
        ("cache = [7]", "paths or tables"),
        ("mount.\"/a\" = \"root\"\ncache = [\"/a\"]", "a mount and a cache at \"/a\""),
    ] {
        place.recipe("bad", &format!("[[step]]\nrun = 'x'\n{keys}\n"));
        let ran = run(&mut place.command(&["check", "bad.toml"]));
        assert_eq!(ran.code, 2, "{keys}: {}", ran.err);
        assert!(ran.err.contains(message), "{keys}: {}", ran.err);
        assert!(ran.err.contains("bad.toml:"), "{keys}: {}", ran.err);
    }
}
