-- The benchmark's object store inside nginx: S3 and OSS listings from a key file, latency for everything.
-- Objects themselves are static files: nginx answers ranges, ETag and If-Match in C.
--
-- The key file has one line per object, sorted by key bytes: key TAB size TAB etag TAB ISO time.
-- No signatures are checked: what is measured is the client, not the server's cryptography.

local store = {}
local buckets = {}

function store.load(bucket, path)
    local rows = { keys = {}, sizes = {}, etags = {}, times = {}, url = {}, xml = {} }
    local n = 0
    for line in io.lines(path) do
        local key, size, etag, time = line:match("^([^\t]*)\t(%d+)\t([^\t]*)\t([^\t]*)$")
        n = n + 1
        rows.keys[n], rows.sizes[n], rows.etags[n], rows.times[n] = key, size, etag, time
    end
    rows.count = n
    buckets[bucket] = rows
end

-- The first position whose key is greater than (or, if equal counts, not less than) wanted.
local function position(keys, count, wanted, equal_counts)
    local low, high = 1, count + 1
    while low < high do
        local middle = math.floor((low + high) / 2)
        local key = keys[middle]
        if key < wanted or (key == wanted and not equal_counts) then
            low = middle + 1
        else
            high = middle
        end
    end
    return low
end

local function escape_xml(text)
    return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

local function wait()
    local delay = tonumber(ngx.var.store_latency) or 0
    if delay > 0 then
        ngx.sleep(delay)
    end
end

function store.latency()
    wait()
end

local function content(rows, i, encode)
    return "<Contents><Key>" .. encode(rows.keys[i]) .. "</Key><LastModified>" .. rows.times[i]
        .. "</LastModified><ETag>&quot;" .. rows.etags[i] .. "&quot;</ETag><Type>Normal</Type><Size>"
        .. rows.sizes[i] .. "</Size><StorageClass>STANDARD</StorageClass></Contents>"
end

-- Rows of the answer in blocks that are made once and kept: what is measured is the client, not how fast
-- Lua puts texts together.
local BLOCK = 50

local function block(rows, number, made, encode)
    local text = made[number]
    if not text then
        local parts = {}
        for i = (number - 1) * BLOCK + 1, math.min(number * BLOCK, rows.count) do
            parts[#parts + 1] = content(rows, i, encode)
        end
        text = table.concat(parts)
        made[number] = text
    end
    return text
end

-- Keys from position i as they are, without a delimiter: the end is looked for, not walked to.
local function flat(rows, i, prefix, limit, made, encode, out)
    local behind = prefix == "" and rows.count + 1 or position(rows.keys, rows.count, prefix .. "\255", true)
    local stop = math.min(behind, i + limit) - 1
    local at = i
    while at <= stop do
        if at % BLOCK == 1 and at + BLOCK - 1 <= stop then
            out[#out + 1] = block(rows, (at - 1) / BLOCK + 1, made, encode)
            at = at + BLOCK
        else
            out[#out + 1] = content(rows, at, encode)
            at = at + 1
        end
    end
    return math.max(stop - i + 1, 0), rows.keys[stop], stop + 1 < behind
end

-- Emits up to limit keys or common prefixes from position i; returns how many, the last one, and whether
-- more follow.
local function walk(rows, i, prefix, delimiter, limit, emit_key, emit_prefix)
    local emitted, last = 0, nil
    while i <= rows.count do
        local key = rows.keys[i]
        if key:sub(1, #prefix) ~= prefix then
            return emitted, last, false
        end
        if emitted == limit then
            return emitted, last, true
        end
        local cut = delimiter ~= "" and key:find(delimiter, #prefix + 1, true)
        if cut then
            last = key:sub(1, cut + #delimiter - 1)
            emit_prefix(last)
            i = position(rows.keys, rows.count, last .. "\255", true)
        else
            last = key
            emit_key(i)
            i = i + 1
        end
        emitted = emitted + 1
    end
    return emitted, last, false
end

local function number(text, default)
    local value = tonumber(text)
    return value and math.min(value, 1000) or default
end

function store.list(bucket)
    wait()
    local rows = buckets[bucket]
    if not rows then
        ngx.status = 404
        ngx.header["Content-Type"] = "application/xml"
        ngx.print("<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>")
        return
    end
    local args = ngx.req.get_uri_args()
    local prefix = type(args.prefix) == "string" and args.prefix or ""
    local delimiter = type(args.delimiter) == "string" and args.delimiter or ""
    local after = args["continuation-token"] or args["start-after"] or args.marker
    after = type(after) == "string" and after or ""
    local url = args["encoding-type"] == "url"
    local encode, made = url and ngx.escape_uri or escape_xml, url and rows.url or rows.xml
    local i = position(rows.keys, rows.count, prefix, true)
    if after ~= "" then
        -- A common prefix that was the last answer covers all keys below it.
        local behind = delimiter ~= "" and after:sub(-#delimiter) == delimiter and after .. "\255" or after
        i = math.max(i, position(rows.keys, rows.count, behind, false))
    end
    local out, prefixes = {}, {}
    local limit, emitted, last, more = number(args["max-keys"], 1000)
    if delimiter == "" then
        emitted, last, more = flat(rows, i, prefix, limit, made, encode, out)
    else
        emitted, last, more = walk(rows, i, prefix, delimiter, limit,
            function(at) out[#out + 1] = content(rows, at, encode) end,
            function(common)
                prefixes[#prefixes + 1] = "<CommonPrefixes><Prefix>" .. encode(common) .. "</Prefix></CommonPrefixes>"
            end)
    end
    local head = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>' .. bucket .. "</Name><Prefix>"
        .. encode(prefix) .. "</Prefix><MaxKeys>1000</MaxKeys><KeyCount>" .. emitted .. "</KeyCount><IsTruncated>"
        .. tostring(more) .. "</IsTruncated>"
    if url then
        head = head .. "<EncodingType>url</EncodingType>"
    end
    if more then
        -- The token is opaque and comes back as it is; the marker is a key, encoded like every key.
        head = head .. "<NextContinuationToken>" .. escape_xml(last) .. "</NextContinuationToken><NextMarker>"
            .. encode(last) .. "</NextMarker>"
    end
    local parts, length = { head, out, prefixes, "</ListBucketResult>" }, #head + #"</ListBucketResult>"
    for _, texts in ipairs({ out, prefixes }) do
        for _, text in ipairs(texts) do
            length = length + #text
        end
    end
    ngx.header["Content-Type"] = "application/xml"
    ngx.header["Content-Length"] = length
    ngx.print(parts)
end

return store
