//! Recipes made of Dockerfiles, built: the root is what the Dockerfile says.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::lab::{Lab, good};
use crate::tier;

/// A Dockerfile that starts from the files of a tiny root, and uses most of what there is.
const DOCKERFILE: &str = r#"# syntax=docker/dockerfile:1
ARG WORD=hello
FROM scratch AS tiny
ADD root.tar /
ENV KEPT=1

FROM tiny AS build
ARG WORD
ARG LONG="${WORD}-${EXTRA:-more}"
WORKDIR /work/deep
COPY src/ .
COPY src/a.txt /tmp/one.txt
COPY src /tmp/all
# Both lines of it.
RUN mkdir -p /out \
    && echo "$WORD $LONG $KEPT $PWD" > /out/words
RUN cat /tmp/one.txt /tmp/all/b.txt > /out/joined
RUN <<EOF
cat a.txt > /out/first
echo '$WORD' "$WORD" >> /out/first
EOF
RUN cat <<A > /out/second && cat <<-'B' >> /out/second
a $WORD
A
	b $WORD
B
RUN --mount=type=bind,source=src,target=/bound \
    --mount=type=cache,target=/cache \
    --mount=type=bind,from=tiny,source=/etc,target=/tiny \
    cat /bound/b.txt /tiny/group > /out/bound && echo gone > /cache/x
RUN ["/bin/sh", "-c", "echo {{.Go}} > /out/exec"]
SHELL ["/bin/sh", "-e", "-c"]
RUN false; true || echo unreachable
USER app
WORKDIR /home/app/work
RUN id -u > who

FROM tiny
COPY --from=build /out/ /result/
COPY --from=build --chown=app --chmod=640 /home/app/work/who /result/
COPY --chown=1000 --exclude=b.txt src/ /data/
COPY <<EOF <<"PLAIN" /data/
$KEPT "quoted"
EOF
$KEPT
PLAIN
COPY src/*.txt src/sub/ /flat/
WORKDIR /home/app
WORKDIR new
USER app
ENV PATH=/result:$PATH
EXPOSE 80
CMD echo done
"#;

fn lab() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    let root = lab.tiny_root();
    fs::create_dir_all(root.join("home/app")).unwrap();
    fs::set_permissions(root.join("home/app"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut tar = tar::Builder::new(fs::File::create(lab.path("root.tar")).unwrap());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", &root).unwrap();
    tar.finish().unwrap();
    lab.write("src/a.txt", "a\n");
    lab.write("src/b.txt", "b\n");
    lab.write("src/sub/c.txt", "c\n");
    Some(lab)
}

#[test]
fn the_root_is_what_the_dockerfile_says() {
    let Some(lab) = lab() else { return };
    // What fails in a Dockerfile fails in the recipe, and only that.
    lab.write("Dockerfile", DOCKERFILE);
    let run = lab.bake(["new", "--from", "Dockerfile", "tiny"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let failed = lab.bake(["build", "recipe.toml"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("false; true"), "{}", failed.err);
    fs::remove_file(lab.path("recipe.toml")).unwrap();
    lab.write("Dockerfile", &DOCKERFILE.replace("RUN false; true", "RUN true"));
    good(lab.bake(["new", "tiny", "--from", "Dockerfile"]));
    good(lab.bake(["build", "recipe.toml"]));
    good(lab.bake(["export", "tiny:0.1.0", "-f", "dir", "--drop-owners", "-o", "exported"]));
    let read = |path: &str| {
        let at = lab.path("exported").join(path);
        fs::read_to_string(at).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    for (path, content) in [
        ("result/words", "hello hello-more 1 /work/deep\n"),
        ("result/joined", "a\nb\n"),
        ("result/first", "a\n$WORD hello\n"),
        ("result/second", "a hello\nb $WORD\n"),
        ("result/bound", "b\nroot:x:0:\napp:x:1000:\n"),
        ("result/exec", "{{.Go}}\n"),
        ("result/who", "1000\n"),
        ("data/a.txt", "a\n"),
        ("data/sub/c.txt", "c\n"),
        ("data/EOF", "1 \"quoted\"\n"),
        ("data/PLAIN", "$KEPT\n"),
        ("flat/a.txt", "a\n"),
        ("flat/b.txt", "b\n"),
        ("flat/c.txt", "c\n"),
    ] {
        assert_eq!(read(path), content, "{path}");
    }
    // Nothing of mounts and of /tmp is left, and nothing of the stage.
    for path in ["data/b.txt", "cache", "bound", "tiny", "mnt", "work", "out", "tmp/one.txt"] {
        assert!(!lab.path("exported").join(path).exists(), "{path}");
    }
    good(lab.bake(["export", "tiny:0.1.0", "-f", "manifest", "-o", "names"]));
    let names = fs::read_to_string(lab.path("names")).unwrap();
    let line = |path: &str| {
        let found = names.lines().find(|line| line.split(' ').next() == Some(path));
        found.unwrap_or_else(|| panic!("{path}: {names}")).to_owned()
    };
    // What is usual, root's and 0644, stands at the top of the list.
    for (path, part) in [
        ("./result/who", " uid=1000 gid=1000 mode=0640 "),
        ("./data/a.txt", " uid=1000 gid=1000 size="),
        ("./flat/a.txt", ".txt size="),
        // `WORKDIR` leaves what is there as it is, and makes what is missing.
        ("./home/app", "mode=0700 "),
        ("./home/app/new", "/new type=dir mode=0755 "),
    ] {
        let line = line(path);
        assert!(line.contains(part), "{line}");
    }
    let shown = good(lab.bake(["show", "--json", "tiny:0.1.0"]));
    let config = &shown.objects("show")[0]["config"];
    assert_eq!(config["User"], "app", "{config}");
    assert_eq!(config["WorkingDir"], "/home/app/new", "{config}");
    assert_eq!(config["Cmd"], serde_json::json!(["/bin/sh", "-c", "echo done"]), "{config}");
}

/// A variable of the recipe is what `--build-arg` is of a Dockerfile, in all stages.
#[test]
fn arguments_are_variables() {
    let Some(lab) = lab() else { return };
    lab.write(
        "Dockerfile",
        "ARG A=one\nFROM scratch AS x\nADD root.tar /\nARG A\nARG B=${A}-b\nRUN echo $A $B > /x\n\
            FROM x\nARG B=other\nRUN echo $B > /y\nCOPY src/$A.txt /z\n",
    );
    good(lab.bake(["new", "args", "--from", "Dockerfile"]));
    lab.write("src/one.txt", "z\n");
    let export =
        ["export", "args:0.1.0", "-f", "dir", "--drop-owners", "-o", "exported", "--force"];
    let built = |args: &[&str]| {
        let all = ["build", "recipe.toml"].iter().chain(args);
        good(lab.bake(all));
        good(lab.bake(export));
        good(lab.bake(["rm", "args:0.1.0"]));
        ["x", "y", "z"].map(|name| fs::read_to_string(lab.path("exported").join(name)).unwrap())
    };
    assert_eq!(built(&[]), ["one one-b\n", "other\n", "z\n"]);
    assert_eq!(built(&["--var", "A=a"]), ["a a-b\n", "other\n", "a\n"]);
    assert_eq!(built(&["--var", "B=b"]), ["one b\n", "b\n", "z\n"]);
}
