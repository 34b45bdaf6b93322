-- For wrk: loads several paths by turns, in random order in every round, and prints how many requests were sent in
-- each. Given the seconds of a turn, and the paths.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } timespec;
  int clock_gettime(int clock, timespec *time);
]]
local MONOTONIC = 1
local time = ffi.new("timespec")

local function now()
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

local the_thread

function setup(thread)
  the_thread = thread
end

function init(arguments)
  turn, paths, texts, order, sent, said = tonumber(arguments[1]), {}, {}, {}, 0, ""
  for place = 2, #arguments do
    paths[#paths + 1] = arguments[place]
    texts[#texts + 1] = wrk.format("GET", arguments[place])
  end
  math.randomseed(now() * 1000)
  begun = now()
end

-- What is turned to next: the rest of this round, or a new one.
local function turned()
  if #order == 0 then
    for path = 1, #paths do
      table.insert(order, math.random(#order + 1), path)
    end
  end
  return table.remove(order)
end

function request()
  local at = now()
  if current == nil or at >= begun + turn then
    if current ~= nil then
      said = said .. string.format("%s %.3f\n", paths[current], sent / (at - begun))
    end
    current, begun, sent = turned(), at, 0
  end
  sent = sent + 1
  return texts[current]
end

function done()
  io.write(the_thread:get("said"))
end
