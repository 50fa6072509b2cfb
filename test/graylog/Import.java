import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.jsontype.NamedType;
import java.io.PrintStream;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.graylog.events.contentpack.entities.AggregationEventProcessorConfigEntity;
import org.graylog.events.contentpack.entities.EventDefinitionEntity;
import org.graylog.events.processor.EventDefinitionDto;
import org.graylog.events.processor.aggregation.AggregationEventProcessorConfig;
import org.graylog.events.processor.storage.PersistToStreamsStorageHandler;
import org.graylog.plugins.views.search.Query;
import org.graylog.plugins.views.search.Search;
import org.graylog.plugins.views.search.SearchType;
import org.graylog.plugins.views.search.elasticsearch.ElasticsearchQueryString;
import org.graylog.plugins.views.search.filter.OrFilter;
import org.graylog.plugins.views.search.filter.StreamFilter;
import org.graylog.plugins.views.search.searchtypes.MessageList;
import org.graylog.plugins.views.search.searchtypes.pivot.Pivot;
import org.graylog.plugins.views.search.searchtypes.pivot.PivotSort;
import org.graylog.plugins.views.search.searchtypes.pivot.SeriesSort;
import org.graylog.plugins.views.search.searchtypes.pivot.buckets.AutoInterval;
import org.graylog.plugins.views.search.searchtypes.pivot.buckets.Time;
import org.graylog.plugins.views.search.searchtypes.pivot.buckets.Values;
import org.graylog.plugins.views.search.searchtypes.pivot.series.Count;
import org.graylog.plugins.views.search.searchtypes.pivot.series.Latest;
import org.graylog.plugins.views.search.searchtypes.pivot.series.Sum;
import org.graylog.plugins.views.search.validation.LuceneQueryParser;
import org.graylog.plugins.views.search.views.ViewDTO;
import org.graylog.plugins.views.search.views.ViewStateDTO;
import org.graylog.plugins.views.search.views.WidgetDTO;
import org.graylog.plugins.views.search.views.widgets.aggregation.AggregationConfigDTO;
import org.graylog.plugins.views.search.views.widgets.aggregation.AutoIntervalDTO;
import org.graylog.plugins.views.search.views.widgets.aggregation.TimeHistogramConfigDTO;
import org.graylog.plugins.views.search.views.widgets.aggregation.ValueConfigDTO;
import org.graylog.plugins.views.search.views.widgets.aggregation.sort.PivotSortConfig;
import org.graylog.plugins.views.search.views.widgets.aggregation.sort.SeriesSortConfig;
import org.graylog.plugins.views.search.views.widgets.messagelist.MessageListConfigDTO;
import org.graylog.security.UserContext;
import org.graylog2.contentpacks.constraints.GraylogVersionConstraintChecker;
import org.graylog2.contentpacks.model.ContentPack;
import org.graylog2.contentpacks.model.ContentPackV1;
import org.graylog2.contentpacks.model.ModelTypes;
import org.graylog2.contentpacks.model.constraints.ConstraintCheckResult;
import org.graylog2.contentpacks.model.entities.Entity;
import org.graylog2.contentpacks.model.entities.EntityDescriptor;
import org.graylog2.contentpacks.model.entities.EntityV1;
import org.graylog2.contentpacks.model.entities.InputEntity;
import org.graylog2.contentpacks.model.entities.MessageListEntity;
import org.graylog2.contentpacks.model.entities.PivotEntity;
import org.graylog2.contentpacks.model.entities.StreamEntity;
import org.graylog2.contentpacks.model.entities.StreamRuleEntity;
import org.graylog2.contentpacks.model.entities.ViewEntity;
import org.graylog2.contentpacks.model.entities.references.ReferenceMapUtils;
import org.graylog2.inputs.codecs.GelfCodec;
import org.graylog2.inputs.gelf.tcp.GELFTCPInput;
import org.graylog2.inputs.transports.TcpTransport;
import org.graylog2.plugin.configuration.Configuration;
import org.graylog2.plugin.configuration.ConfigurationRequest;
import org.graylog2.plugin.streams.Stream;
import org.graylog2.plugin.streams.StreamRuleType;
import org.graylog2.shared.bindings.providers.ObjectMapperProvider;

/**
 * Reads a content pack as Graylog does and makes of each entity what Graylog's facades make of it
 * before they store it. Input is the pack, output one line of JSON for each entity. Everything is
 * Graylog's own, but for the streams that others refer to, which only have an id, and for
 * the list of types that Graylog's modules register.
 */
public class Import {
    /** The types of searches, widgets and events that the pack uses, as Graylog's ViewsBindings, ContentPacksModule and EventsModule register them. */
    static final Set<NamedType> types = Set.of(named(ElasticsearchQueryString.class), named(OrFilter.class), named(StreamFilter.class),
            named(MessageList.class), named(MessageListEntity.class), named(Pivot.class), named(PivotEntity.class), named(PivotSort.class), named(SeriesSort.class), named(AutoInterval.class),
            named(Time.class), named(Values.class), new NamedType(Count.class, "count"), new NamedType(Sum.class, "sum"), new NamedType(Latest.class, "latest"),
            named(AggregationConfigDTO.class), named(AutoIntervalDTO.class), named(TimeHistogramConfigDTO.class), named(ValueConfigDTO.class), named(PivotSortConfig.class), named(SeriesSortConfig.class), named(MessageListConfigDTO.class),
            new NamedType(AggregationEventProcessorConfigEntity.class, "aggregation-v1"), new NamedType(AggregationEventProcessorConfig.class, "aggregation-v1"),
            new NamedType(PersistToStreamsStorageHandler.Config.class, "persist-to-streams-v1"));

    static final ObjectMapper mapper = new ObjectMapperProvider(Import.class.getClassLoader(), types).get();
    static final Map<EntityDescriptor, Object> streams = new HashMap<>();

    /** A user who may read every stream. */
    static final UserContext anybody = new UserContext(null, null, null) {
        @Override
        public boolean isPermitted(String permission) {
            return true;
        }

        @Override
        public boolean isPermitted(String permission, String id) {
            return true;
        }
    };

    static NamedType named(Class<?> type) {
        return new NamedType(type);
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        System.setOut(System.err); // for the log
        ContentPackV1 pack = (ContentPackV1) mapper.readValue(System.in, ContentPack.class);
        for (ConstraintCheckResult r : new GraylogVersionConstraintChecker().checkConstraints(pack.constraints())) {
            if (!r.fulfilled()) {
                throw new IllegalStateException("this version of Graylog does not take the pack: " + r);
            }
        }
        for (Entity e : pack.entities()) {
            if (e.type().equals(ModelTypes.STREAM_V1)) {
                streams.put(((EntityV1) e).toEntityDescriptor(), Proxy.newProxyInstance(Import.class.getClassLoader(), new Class<?>[] {Stream.class},
                        (self, method, values) -> method.getName().equals("getId") ? "made of " + e.id().id() : method.invoke(e, values)));
            }
        }
        for (Entity e : pack.entities()) {
            Map<String, Object> made = new LinkedHashMap<>();
            made.put("kind", e.type().name());
            var data = ((EntityV1) e).data();
            switch (e.type().name()) {
                case "input" -> input(mapper.convertValue(data, InputEntity.class), made);
                case "stream" -> stream(mapper.convertValue(data, StreamEntity.class), made);
                case "search", "dashboard" -> view(mapper.convertValue(data, ViewEntity.class), made);
                case "event_definition" -> event(mapper.convertValue(data, EventDefinitionEntity.class), made);
                default -> throw new IllegalStateException("unknown entity " + e.type());
            }
            out.println(mapper.writeValueAsString(made));
        }
        System.exit(0);
    }

    /** The input's own request says which values it needs, of which types. */
    static void input(InputEntity e, Map<String, Object> made) throws Exception {
        Map<String, Object> values = ReferenceMapUtils.toValueMap(e.configuration(), Map.of());
        ConfigurationRequest request = new GELFTCPInput.Config(answering(TcpTransport.Factory.class, new TcpTransport.Config()),
                answering(GelfCodec.Factory.class, new GelfCodec.Config())).combinedRequestedConfiguration();
        request.check(new Configuration(values));
        made.put("title", e.title().asString(Map.of()));
        made.put("type", e.type().asString(Map.of()).equals(GELFTCPInput.class.getName()));
        made.put("unknown", values.keySet().stream().filter(name -> !request.containsField(name)).toList());
        made.put("missing", request.getFields().keySet().stream().filter(name -> !values.containsKey(name)).toList());
        made.put("values", values);
    }

    /** Returns a factory that only has a configuration. */
    static <T> T answering(Class<T> type, Object config) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (self, method, args) -> config));
    }

    static void stream(StreamEntity e, Map<String, Object> made) {
        List<Object> rules = new ArrayList<>();
        for (StreamRuleEntity r : e.streamRules()) {
            rules.add(Map.of("type", r.type().asEnum(Map.of(), StreamRuleType.class), "field", r.field().asString(Map.of()),
                    "value", r.value().asString(Map.of()), "inverted", r.inverted().asBoolean(Map.of())));
        }
        made.put("title", e.title().asString(Map.of()));
        made.put("matching", e.matchingType().asEnum(Map.of(), Stream.MatchingType.class));
        made.put("disabled", e.disabled().asBoolean(Map.of()));
        made.put("remove", e.removeMatches().asBoolean(Map.of()));
        made.put("rules", rules);
    }

    static void view(ViewEntity e, Map<String, Object> made) throws Exception {
        Search search = e.search().toNativeEntity(Map.of(), streams);
        Map<String, ViewStateDTO> state = new LinkedHashMap<>();
        for (var s : e.state().entrySet()) {
            state.put(s.getKey(), s.getValue().toNativeEntity(Map.of(), streams));
        }
        ViewDTO view = e.toNativeEntity(Map.of(), streams).state(state).searchId(search.id()).build();
        LuceneQueryParser parser = new LuceneQueryParser(false);
        List<String> shown = new ArrayList<>();
        for (Query q : search.queries()) {
            parse(parser, q.query().queryString());
            for (SearchType t : q.searchTypes()) {
                if (t.query().isPresent()) {
                    parse(parser, t.query().get().queryString());
                }
            }
            for (WidgetDTO w : state.get(q.id()).widgets()) {
                for (String id : state.get(q.id()).widgetMapping().get(w.id())) {
                    shown.add(w.config().getClass().getSimpleName().replace("AutoValue_", "") + " of " + q.searchTypes().stream().filter(t -> t.id().equals(id)).findFirst().orElseThrow().type());
                }
            }
        }
        made.put("title", view.title());
        made.put("type", view.type());
        made.put("streams", search.usedStreamIds());
        made.put("widgets", shown);
    }

    static void parse(LuceneQueryParser parser, String query) throws Exception {
        if (!query.isEmpty()) {
            parser.parse(query);
        }
    }

    static void event(EventDefinitionEntity e, Map<String, Object> made) throws Exception {
        EventDefinitionDto event = e.toNativeEntity(Map.of(), streams);
        AggregationEventProcessorConfig config = (AggregationEventProcessorConfig) event.config();
        parse(new LuceneQueryParser(false), config.query());
        made.put("title", event.title());
        made.put("errors", config.validate(anybody).getErrors());
        made.put("streams", config.streams());
        made.put("storage", event.storage());
        made.put("alert", event.alert());
    }
}
