import com.codahale.metrics.Meter;
import com.codahale.metrics.MetricRegistry;
import com.codahale.metrics.Timer;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.util.RawValue;
import com.google.common.eventbus.EventBus;
import de.huxhorn.sulky.ulid.ULID;
import io.netty.channel.EventLoopGroup;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Proxy;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executors;
import org.graylog.failure.FailureSubmissionService;
import org.graylog2.GraylogNodeConfiguration;
import org.graylog2.buffers.OutputBuffer;
import org.graylog2.configuration.TLSProtocolsConfiguration;
import org.graylog2.indexer.IndexMapping7;
import org.graylog2.indexer.indexset.CustomFieldMappings;
import org.graylog2.indexer.messages.ImmutableMessage;
import org.graylog2.indexer.messages.SerializationContext;
import org.graylog2.inputs.codecs.GelfChunkAggregator;
import org.graylog2.inputs.codecs.GelfCodec;
import org.graylog2.inputs.codecs.gelf.GELFBulkDroppedMsgService;
import org.graylog2.inputs.diagnosis.InputDiagnosisMetrics;
import org.graylog2.messageprocessors.OrderedMessageProcessors;
import org.graylog2.inputs.gelf.http.GELFHttpInput;
import org.graylog2.inputs.gelf.tcp.GELFTCPInput;
import org.graylog2.inputs.gelf.udp.GELFUDPInput;
import org.graylog2.inputs.transports.HttpTransport;
import org.graylog2.inputs.transports.NettyTransportConfiguration;
import org.graylog2.inputs.transports.TcpTransport;
import org.graylog2.inputs.transports.UdpTransport;
import org.graylog2.inputs.transports.netty.EventLoopGroupFactory;
import org.graylog2.plugin.IOState;
import org.graylog2.plugin.InputFailureRecorder;
import org.graylog2.plugin.LocalMetricRegistry;
import org.graylog2.plugin.Message;
import org.graylog2.plugin.MessageFactory;
import org.graylog2.plugin.ServerStatus;
import org.graylog2.plugin.buffers.InputBuffer;
import org.graylog2.plugin.buffers.MessageEvent;
import org.graylog2.plugin.cluster.ClusterConfigService;
import org.graylog2.plugin.configuration.Configuration;
import org.graylog2.plugin.inputs.MessageInput;
import org.graylog2.plugin.inputs.codecs.Codec;
import org.graylog2.plugin.inputs.failure.InputProcessingException;
import org.graylog2.plugin.inputs.transports.NettyTransport;
import org.graylog2.plugin.inputs.transports.Transport;
import org.graylog2.plugin.inputs.util.ThroughputCounter;
import org.graylog2.plugin.journal.RawMessage;
import org.graylog2.plugin.streams.Stream;
import org.graylog2.plugin.system.NodeId;
import org.graylog2.plugin.system.SimpleNodeId;
import org.graylog2.shared.bindings.providers.ObjectMapperProvider;
import org.graylog2.shared.buffers.processors.DecodingProcessor;
import org.graylog2.shared.buffers.processors.MessageULIDGenerator;
import org.graylog2.shared.buffers.processors.ProcessBufferProcessor;
import org.graylog2.shared.messageq.noop.NoopMessageQueueAcknowledger;
import org.graylog2.streams.StreamMetrics;
import org.graylog2.system.processing.ProcessingStatusRecorder;

/**
 * Says what Graylog makes of GELF messages. The codec, the decoding, what comes after it, and the
 * document are Graylog's own, with the configuration of a new installation; what is around them
 * (the cluster, the default stream, the queues) is stood in for.
 *
 * With an argument it opens Graylog's inputs on the loopback, until its standard input ends. The
 * first line of output has their ports, and then there is one for each message that comes.
 *
 * Without one, the first line of output is Graylog's index template. Then there is one line for each line of
 * input, which is a message in base64: {"document": …} for the index, {"refused": why} or, for a
 * message that vanishes without a word, {}.
 */
public class Decode {
    static final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    static {
        System.setOut(System.err); // for the log
    }

    static final MetricRegistry metrics = new MetricRegistry();
    static final ObjectMapper mapper = new ObjectMapperProvider().get();
    static final NodeId node = new SimpleNodeId("node");
    static final Map<String, Object> answer = new LinkedHashMap<>();
    static final EventBus bus = new EventBus();
    static final InputDiagnosisMetrics diagnosis = new InputDiagnosisMetrics(metrics);
    static final ServerStatus status = new ServerStatus(standIn(GraylogNodeConfiguration.class, Map.of("withCapabilities", (self, method, args) -> Set.of())), Set.of(), bus, () -> null, node);
    static final Map<String, Codec.Factory<? extends Codec>> codecs = Map.of("gelf", codec());

    public static void main(String[] args) {
        try {
            if (args.length == 0) {
                answer(processor());
            } else {
                listen(processor());
                System.in.read();
            }
            out.flush();
            System.exit(0);
        } catch (Exception e) { // threads of Graylog would keep the program
            e.printStackTrace();
            System.exit(1);
        }
    }

    /** Answers for each message of standard input. */
    static void answer(ProcessBufferProcessor processor) throws Exception {
        out.println(mapper.writeValueAsString(new IndexMapping7().messageTemplate("graylog_*", "standard", -1L, new CustomFieldMappings())));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line; (line = in.readLine()) != null; ) {
            RawMessage raw = new RawMessage(Base64.getDecoder().decode(line), new InetSocketAddress("192.0.2.1", 4711));
            raw.setCodecName("gelf");
            raw.setCodecConfig(Configuration.EMPTY_CONFIGURATION);
            raw.addSourceNode("input", node);
            process(processor, raw);
        }
    }

    /** Prints what becomes of a message. */
    static synchronized void process(ProcessBufferProcessor processor, RawMessage raw) throws Exception {
        MessageEvent event = new MessageEvent();
        event.setRaw(raw);
        answer.clear();
        processor.onEvent(event);
        out.println(mapper.writeValueAsString(answer));
    }

    /** Opens an input of each kind on the loopback, and prints their ports. */
    static void listen(ProcessBufferProcessor processor) throws Exception {
        Configuration config = new Configuration(Map.of("bind_address", "127.0.0.1", "port", 0, "recv_buffer_size", 1 << 20, "number_worker_threads", 1,
                "max_message_size", 2 << 20, "use_null_delimiter", true, "tls_enable", false, "max_chunk_size", 65536, "idle_writer_timeout", 60));
        NettyTransportConfiguration netty = new NettyTransportConfiguration("nio", "jdk", 1);
        EventLoopGroupFactory loops = new EventLoopGroupFactory(netty);
        EventLoopGroup loop = loops.create(1, metrics, "test");
        ThroughputCounter traffic = new ThroughputCounter(loop);
        TLSProtocolsConfiguration tls = new TLSProtocolsConfiguration();
        TcpTransport tcp = new TcpTransport(config, loop, loops, netty, traffic, new LocalMetricRegistry(), tls);
        HttpTransport http = new HttpTransport(config, loop, loops, netty, traffic, new LocalMetricRegistry(), tls);
        UdpTransport udp = new UdpTransport(config, loops, netty, traffic, new LocalMetricRegistry());
        TcpTransport.Factory tcps = only(TcpTransport.Factory.class, tcp, new TcpTransport.Config());
        HttpTransport.Factory https = only(HttpTransport.Factory.class, http, new HttpTransport.Config());
        UdpTransport.Factory udps = only(UdpTransport.Factory.class, udp, new UdpTransport.Config());
        GelfCodec.Factory codec = (GelfCodec.Factory) codecs.get("gelf");
        List<MessageInput> inputs = List.of(
                new GELFTCPInput(metrics, config, tcps, codec, new LocalMetricRegistry(), new GELFTCPInput.Config(tcps, codec), new GELFTCPInput.Descriptor(), status),
                new GELFHttpInput(metrics, config, https, codec, new LocalMetricRegistry(), new GELFHttpInput.Config(https, codec), new GELFHttpInput.Descriptor(), status),
                new GELFUDPInput(metrics, config, udps, codec, new LocalMetricRegistry(), new GELFUDPInput.Config(udps, codec), new GELFUDPInput.Descriptor(), status));
        InputBuffer buffer = standIn(InputBuffer.class, Map.of("insert", (self, method, args) -> {
            process(processor, (RawMessage) args[0]);
            return null;
        }));
        for (MessageInput input : inputs) {
            input.setPersistId(input.getClass().getSimpleName());
            input.launch(buffer, new InputFailureRecorder(new IOState<>(null, input)));
        }
        out.println(mapper.writeValueAsString(Map.of("tcp", port(tcp), "http", port(http), "udp", port(udp))));
    }

    /** Returns the port once the transport has one: it binds in the background. */
    static int port(NettyTransport transport) throws InterruptedException {
        while (transport.getLocalAddress() == null) {
            Thread.sleep(10);
        }
        return ((InetSocketAddress) transport.getLocalAddress()).getPort();
    }

    /** Returns a factory of one transport. */
    static <T> T only(Class<T> type, Transport transport, Transport.Config config) {
        return standIn(type, Map.of("create", (self, method, args) -> transport, "getConfig", (self, method, args) -> config));
    }

    /** Returns an object whose methods answer null, 0 or false, or what answers says by their names. */
    static <T> T standIn(Class<T> type, Map<String, InvocationHandler> answers) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (self, method, args) -> {
            if (answers.containsKey(method.getName())) {
                return answers.get(method.getName()).invoke(self, method, args);
            }
            return switch (method.getName()) {
                case "hashCode" -> System.identityHashCode(self);
                case "equals" -> self == args[0];
                case "toString" -> type.getSimpleName();
                default -> method.getReturnType() == boolean.class ? (Object) false : method.getReturnType() == int.class ? (Object) 0 : null;
            };
        }));
    }

    /** Returns what Graylog decodes GELF with. */
    static Codec.Factory<? extends Codec> codec() {
        GelfChunkAggregator chunks = new GelfChunkAggregator(Executors.newSingleThreadScheduledExecutor(), metrics);
        return standIn(GelfCodec.Factory.class, Map.of("getConfig", (self, method, args) -> new GelfCodec.Config(),
                "create", (self, method, args) -> new GelfCodec((Configuration) args[0], chunks, messages(), new GELFBulkDroppedMsgService(diagnosis))));
    }

    static MessageFactory messages() throws Exception {
        var known = Class.forName("org.graylog2.plugin.DefaultMessageFactory").getDeclaredConstructor();
        known.setAccessible(true);
        return (MessageFactory) known.newInstance();
    }

    static ProcessBufferProcessor processor() {
        ClusterConfigService cluster = standIn(ClusterConfigService.class, Map.of("getOrDefault", (self, method, args) -> args[1]));
        FailureSubmissionService failures = failures();
        Stream stream = standIn(Stream.class, Map.of("getId", (self, method, args) -> "000000000000000000000001"));
        return new ProcessBufferProcessor(metrics, new OrderedMessageProcessors(Set.of(), cluster, bus), output(), standIn(ProcessingStatusRecorder.class, Map.of()),
                new MessageULIDGenerator(new ULID()), new DecodingProcessor(codecs, status, metrics, new NoopMessageQueueAcknowledger(), failures, new Timer(), new Timer()),
                () -> stream, failures, new StreamMetrics(metrics), cluster, bus);
    }

    /** Returns the place where Graylog reports what it refuses. */
    static FailureSubmissionService failures() {
        return new FailureSubmissionService(null, null, diagnosis, new ObjectMapperProvider()) {
            @Override
            public void submitInputFailure(InputProcessingException e, String input) {
                answer.put("refused", e.getMessage());
            }

            @Override
            public boolean submitProcessingErrors(Message message) {
                return message.processingErrors().isEmpty();
            }

            @Override
            public boolean submitUnknownProcessingError(Message message, String details) {
                answer.put("refused", details);
                return false;
            }
        };
    }

    /** Returns the buffer behind which the index is. */
    static OutputBuffer output() {
        return new OutputBuffer(metrics, null, 0, 1, "blocking") {
            @Override
            public void insertBlocking(Message message) {
                try {
                    byte[] document = ImmutableMessage.wrap(message).serialize(SerializationContext.of(mapper, new Meter()));
                    answer.put("document", new RawValue(new String(document, StandardCharsets.UTF_8)));
                } catch (IOException e) {
                    answer.put("refused", e.getMessage());
                }
            }
        };
    }
}
