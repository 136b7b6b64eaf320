# bake's callback: a line of text for each task as it ends, and a line of JSON for bake itself.
from __future__ import annotations

import json
import os
import sys
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: bake
type: stdout
short_description: reports to bake
description: [a line of text for each task, and a line of JSON for bake itself]
"""

KEEP = ("msg", "stderr", "stdout", "module_stderr", "module_stdout", "reason")


NOT_HERE = "the host cannot be reached: only the image can be configured"


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "bake"

    def __init__(self):
        super().__init__()
        self.begun = {}
        self.play = ""
        run = os.environ.get("BAKE_RUN", "1")
        self.out = open("/dev/bake/report/run-" + run, "w", buffering=1)

    def set_options(self, task_keys=None, var_options=None, direct=None):
        try:
            super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        except Exception:
            pass

    def note(self, **line):
        self.out.write(json.dumps(line) + "\n")

    def show(self, text):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def v2_playbook_on_play_start(self, play):
        self.play = (play.get_name() or "").strip()
        self.show("play: %s" % self.play)

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.begun[task._uuid] = time.monotonic()

    def v2_playbook_on_handler_task_start(self, task):
        self.begun[task._uuid] = time.monotonic()

    def v2_playbook_on_cleanup_task_start(self, task):
        self.begun[task._uuid] = time.monotonic()

    def v2_playbook_on_no_hosts_matched(self):
        self.note(event="nobody", play=self.play)
        self.show("no host of this play is the image")

    def v2_playbook_on_vars_prompt(self, varname, private=True, prompt=None, encrypt=None,
                                   confirm=False, salt_size=None, salt=None, default=None,
                                   unsafe=None):
        self.note(event="prompt", name=varname)
        self.show("asks for %s" % varname)
        self.out.flush()
        os._exit(1)

    def name(self, task):
        return (task.get_name() or "").strip()

    def place(self, task):
        try:
            return task.get_path() or ""
        except Exception:
            return ""

    def task(self, result):
        return getattr(result, "task", None) or result._task

    def result(self, result):
        found = getattr(result, "result", None)
        return found if isinstance(found, dict) else result._result

    def hidden(self, result):
        return bool(getattr(self.task(result), "no_log", False) or
                    self.result(result).get("_ansible_no_log"))

    def ended(self, result, word):
        task = self.task(result)
        took = time.monotonic() - self.begun.get(task._uuid, time.monotonic())
        self.show("%s: %s (%.1fs)" % (word, self.name(task), took))

    def why(self, result):
        if self.hidden(result):
            return "its result is hidden (no_log)"
        found = self.result(result)
        texts = []
        for key in KEEP:
            text = found.get(key)
            if isinstance(text, str) and text.strip() and text.strip() not in texts:
                texts.append(text.strip())
        for item in found.get("results") or []:
            if isinstance(item, dict) and item.get("failed") and item.get("msg"):
                texts.append("%s: %s" % (item.get("item"), item["msg"]))
        why = "\n".join(texts) or "no reason was given"
        if "Unable to execute ssh" in why:
            return NOT_HERE + "\n" + why
        return why

    def v2_runner_on_ok(self, result):
        task, changed = self.task(result), bool(self.result(result).get("changed"))
        self.ended(result, "changed" if changed else "ok")
        if changed:
            self.note(event="changed", task=self.name(task), at=self.place(task))
        found = self.result(result)
        if task.action in ("debug", "ansible.builtin.debug") and not self.hidden(result):
            shown = {k: v for k, v in found.items() if not k.startswith("_") and
                     k not in ("changed", "failed", "invocation")}
            for line in self._dump_results(shown, indent=2).splitlines():
                self.show("  " + line)

    def v2_runner_on_skipped(self, result):
        self.ended(result, "skipped")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        task, why = self.task(result), self.why(result)
        self.ended(result, "failed (ignored)" if ignore_errors else "failed")
        for line in why.splitlines():
            self.show("  " + line)
        if not ignore_errors:
            self.note(event="failed", task=self.name(task), at=self.place(task), why=why)

    def v2_runner_on_unreachable(self, result):
        task, why = self.task(result), self.why(result)
        self.ended(result, "unreachable")
        self.note(event="failed", task=self.name(task), at=self.place(task),
                  why=NOT_HERE + "\n" + why)

    def v2_runner_retry(self, result):
        self.ended(result, "again")

    def v2_playbook_on_include(self, included_file):
        pass

    def v2_playbook_on_stats(self, stats):
        total = {"ok": 0, "changed": 0, "failures": 0, "unreachable": 0}
        for host in stats.processed:
            for key, value in stats.summarize(host).items():
                if key in total:
                    total[key] += value
        self.note(event="ended", ok=total["ok"], changed=total["changed"],
                  failed=total["failures"], unreachable=total["unreachable"])
        self.out.flush()
