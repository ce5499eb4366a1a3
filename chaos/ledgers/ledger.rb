# frozen_string_literal: true

# zeroloss's ledger for Ruby: what a task body calls, so that the harness knows what was executed.
#
#     require_relative "ledger"
#     ZeroLoss.effect(task["id"], payload: text, attempt: n) { ... the work ... }
#
# `payload` is what arrived: JSON text (a String), compared byte for byte, or the value that was decoded. Without
# ZEROLOSS_LEDGER in the environment it only runs the block. One file a process, one write an event; a forked child
# opens its own. What a line means: docs/ledger.md of zeroloss. Standard library only; copy it freely.
require "digest"
require "json"
require "securerandom"

module ZeroLoss
  SHOWN_CALLS = 3
  SHOWN_BYTES_MAX = 4096
  NOT_GIVEN = Object.new
  File_ = Struct.new(:pid, :directory, :io, :prefix, :calls)

  @lock = Mutex.new

  def self.effect(task, payload: NOT_GIVEN, attempt: nil)
    directory = ENV["ZEROLOSS_LEDGER"].to_s
    return yield if directory.empty?

    call, execution = next_call(directory)
    begin_ = { attempt: attempt }
    unless payload.equal?(NOT_GIVEN)
      text = text_of(payload)
      begin_[:digest] = Digest::SHA256.hexdigest(text)
      shown = call <= SHOWN_CALLS && text.bytesize <= SHOWN_BYTES_MAX
      begin_[:payload] = text.dup.force_encoding("UTF-8").scrub if shown
    end
    write(directory, "begin", task, execution, begin_)
    begin
      result = yield
    rescue Exception => e # whatever ends the body is recorded, and raised again
      write(directory, "error", task, execution, { error: "#{e.class}: #{e.message}"[0, 500].scrub })
      raise
    end
    write(directory, "end", task, execution, {})
    result
  end

  # SHA-256, in hex, of JSON text, or of a value's canonical JSON.
  def self.digest(payload)
    Digest::SHA256.hexdigest(text_of(payload))
  end

  def self.text_of(payload)
    payload.is_a?(String) ? payload : JSON.generate(sorted(payload), ascii_only: true).gsub("\x7f", "\\u007f")
  end

  def self.sorted(value)
    case value
    when Hash then value.sort_by { |name, _| name.to_s }.to_h { |name, member| [name.to_s, sorted(member)] }
    when Array then value.map { |member| sorted(member) }
    else value
    end
  end

  def self.next_call(directory)
    @lock.synchronize do
      file = file_of(directory)
      [file.calls += 1, "#{file.prefix}-#{file.calls}"]
    end
  end

  # A forked child has its parent's file, and must not write to it.
  def self.file_of(directory)
    return @file if @file && @file.pid == Process.pid && @file.directory == directory

    io = File.open("#{directory}/worker-#{Process.pid}.jsonl", File::WRONLY | File::CREAT | File::APPEND, 0o644)
    @file = File_.new(Process.pid, directory, io, "#{Process.pid}-#{SecureRandom.hex(4)}", 0)
  end

  def self.write(directory, phase, task, execution, members)
    @lock.synchronize do
      event = { t: Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond), pid: Process.pid, kind: "effect",
                phase: phase, task: task.to_s, execution: execution }.merge(members.compact)
      line = "#{JSON.generate(event)}\n"
      written = file_of(directory).io.syswrite(line)
      raise IOError, "an event of the ledger could not be written in full" if written != line.bytesize
    end
  end

  private_class_method :text_of, :sorted, :next_call, :file_of, :write
end
