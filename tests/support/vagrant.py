"""The machines of the Vagrantfile, read by ruby without Vagrant."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from support import ROOT

#: A stand-in for Vagrant's configuration objects: writes down what a Vagrantfile says to them.
RECORDER = r"""
require "json"
class Recorder
  attr_reader :said
  def initialize; @said = []; end
  def method_missing(name, *words, **options, &block)
    inner = Recorder.new
    block.call(inner) if block && name != :ruby
    @said << { call: name, words: words, options: options, inner: inner.said }
    name.to_s.end_with?("=") ? words.first : (@children ||= {})[name] ||= inner.tap { |i| @said.last[:inner] = i.said }
  end
  def respond_to_missing?(*) = true
end
module Vagrant
  def self.configure(version)
    config = Recorder.new
    yield config
    puts JSON.generate(config.said)
  end
end
load "Vagrantfile"
"""


def machines() -> dict[str, dict[str, Any]]:
    """Return the calls that the Vagrantfile makes for each machine."""
    if shutil.which("ruby") is None:
        pytest.skip("no ruby to read a Vagrantfile with")
    said = json.loads(
        subprocess.run(
            ["ruby", "-e", RECORDER], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    )
    calls = [call for vm in said for call in vm["inner"]]
    found: dict[str, dict[str, Any]] = {}
    for define in (call for call in calls if call["call"] == "define"):
        inner = [call for part in define["inner"] for call in part["inner"]]
        found[define["words"][0]] = {
            "triggers": [call["words"] for call in inner if call["call"] == "after"],
            **{
                call["words"][0]: call["options"]
                for call in inner
                if call["call"] in ("network", "provision")
            },
        }
    return found
