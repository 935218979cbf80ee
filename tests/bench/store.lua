-- The benchmark's object store inside nginx: S3 and OSS listings from a key file, latency for everything.
-- Objects themselves are static files: nginx answers ranges, ETag and If-Match in C.
--
-- The key file has one line per object, sorted by key bytes: key TAB size TAB etag TAB ISO time.
-- No signatures are checked: what is measured is the client, not the server's cryptography.

local store = {}
local buckets = {}

function store.load(bucket, path)
    local rows = { keys = {}, sizes = {}, etags = {}, times = {} }
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

local function contents(out, rows, i, encode)
    out[#out + 1] = "<Contents><Key>"
    out[#out + 1] = encode(rows.keys[i])
    out[#out + 1] = "</Key><LastModified>"
    out[#out + 1] = rows.times[i]
    out[#out + 1] = "</LastModified><ETag>&quot;"
    out[#out + 1] = rows.etags[i]
    out[#out + 1] = "&quot;</ETag><Type>Normal</Type><Size>"
    out[#out + 1] = rows.sizes[i]
    out[#out + 1] = "</Size><StorageClass>STANDARD</StorageClass></Contents>"
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
    local encode = args["encoding-type"] == "url" and ngx.escape_uri or escape_xml
    local i = position(rows.keys, rows.count, prefix, true)
    if after ~= "" then
        -- A common prefix that was the last answer covers all keys below it.
        local behind = delimiter ~= "" and after:sub(-#delimiter) == delimiter and after .. "\255" or after
        i = math.max(i, position(rows.keys, rows.count, behind, false))
    end
    local out, prefixes = {}, {}
    local emitted, last, more = walk(rows, i, prefix, delimiter, number(args["max-keys"], 1000),
        function(at) contents(out, rows, at, encode) end,
        function(common)
            prefixes[#prefixes + 1] = "<CommonPrefixes><Prefix>" .. encode(common) .. "</Prefix></CommonPrefixes>"
        end)
    local head = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>' .. bucket .. "</Name><Prefix>"
        .. encode(prefix) .. "</Prefix><MaxKeys>1000</MaxKeys><KeyCount>" .. emitted .. "</KeyCount><IsTruncated>"
        .. tostring(more) .. "</IsTruncated>"
    if args["encoding-type"] == "url" then
        head = head .. "<EncodingType>url</EncodingType>"
    end
    if more then
        -- The token is opaque and comes back as it is; the marker is a key, encoded like every key.
        head = head .. "<NextContinuationToken>" .. escape_xml(last) .. "</NextContinuationToken><NextMarker>"
            .. encode(last) .. "</NextMarker>"
    end
    local body = head .. table.concat(out) .. table.concat(prefixes) .. "</ListBucketResult>"
    ngx.header["Content-Type"] = "application/xml"
    ngx.header["Content-Length"] = #body
    ngx.print(body)
end

return store
