# bake's report processor: a line of JSON for each resource that changed or failed.
require 'json'
require 'puppet'

Puppet::Reports.register_report(:bake) do
  desc 'Reports to bake.'

  def process
    run = ENV['BAKE_RUN'] || '1'
    File.open("/dev/bake/report/run-#{run}", 'w') do |out|
      counts = { ok: 0, changed: 0, failed: 0 }
      resource_statuses.each do |name, one|
        next if name =~ /\A(Class|Filebucket|Schedule|Stage|Whit)\[/
        at = one.file ? "#{one.file}:#{one.line}" : ''
        if one.failed || one.failed_to_restart
          counts[:failed] += 1
          why = one.events.select { |event| event.status == 'failure' }.map { |event| event.message.to_s }
          why = why.reject(&:empty?).join("\n")
          why = 'no reason was given' if why.empty?
          out.puts(JSON.generate(event: 'failed', task: name, at: at, why: why))
        elsif one.skipped
          next
        else
          counts[:ok] += 1
          next unless one.changed
          counts[:changed] += 1
          out.puts(JSON.generate(event: 'changed', task: name, at: at))
        end
      end
      out.puts(JSON.generate(counts.merge(event: 'ended', unreachable: 0)))
    end
  end
end
